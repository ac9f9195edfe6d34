"""Daemons stop when the last worker is done with them."""

from __future__ import annotations

import pytest

from .inner import Inner

pytestmark = pytest.mark.long

WATCHING = """
import os, pathlib, time
import pytest

ROOT = pathlib.Path(__file__).parent

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    result = yield  # pytest-xdist has ended its workers
    if "PYTEST_XDIST_WORKER" not in os.environ:
        deadline = time.monotonic() + 60
        while list(ROOT.glob("t/neo-daemons-*/run-*")):
            assert time.monotonic() < deadline, "the session has not ended"
            time.sleep(0.01)
        (ROOT / "ended").touch()
    return result
"""


def test_a_session_ends_before_the_controller_does_and_the_summary_tells_how_it_was(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", WATCHING)
    inner.write("test_on.py", "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(api, n): pass\n")
    outcome = inner.run("-n", "2")
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert (inner.root / "ended").exists(), outcome.text
    summary = outcome.text.rpartition("= neo-daemons =")[2]
    assert "ready after" in summary
    assert "stopp" not in summary
    assert inner.left() == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_session_outlives_a_worker_that_is_replaced(inner: Inner, workers: str) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_on.py",
        """
        import os, pathlib
        import pytest

        @pytest.mark.parametrize("n", range(6))
        def test(api, n):
            crashed = pathlib.Path(__file__).with_name("crashed")
            if n == 3 and not crashed.exists():
                crashed.touch()
                os._exit(9)
            assert api.pid
        """,
    )
    outcome = inner.run("-n", workers)
    assert outcome.counts() == {"error": 1, "passed": 5}, outcome.text
    assert inner.starts() == 1
    assert inner.left() == []
