"""Daemons that overwrite their environment, and with it their mark, end with the run like all others."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.harness import is_alive, until

from .inner import Inner

pytestmark = pytest.mark.long

CONFTEST = """
    import os, pathlib, time
    import pytest

    HERE = pathlib.Path(__file__).parent

    @pytest.fixture
    def wait(titled):
        def wait():
            (HERE / "here").touch()
            time.sleep(300)
        return wait
"""
TESTS = """
    def test_long(wait):
        wait()

    def test_short(plain):
        pass
"""


@pytest.fixture
def begun(inner: Inner) -> tuple[Inner, int, int, int]:
    """A run in the midst of a test, its process, its supervisor, and its daemon, which has no mark."""
    inner.configure(titled=inner.toy("titled"), plain=inner.toy())
    inner.write("conftest.py", CONFTEST)
    inner.write("test_it.py", TESTS)
    run = inner.popen("-k", "long")
    inner.reaches("here")
    (supervisor,) = inner.supervisors()
    daemon = int(inner.pids.read_text().split()[0])
    assert b"NEO_DAEMONS_MARK" not in Path(f"/proc/{daemon}/environ").read_bytes()
    return inner, run.pid, supervisor, daemon


@pytest.mark.parametrize("supervisor_first", [True, False], ids=["supervisor first", "pytest first"])
def test_the_next_run_ends_a_daemon_whose_run_and_supervisor_were_killed(
    begun: tuple[Inner, int, int, int], supervisor_first: bool
) -> None:
    inner, run, supervisor, daemon = begun
    for pid in (run, supervisor):
        os.kill(pid, signal.SIGSTOP)  # neither sees the other's end
    for pid in (supervisor, run) if supervisor_first else (run, supervisor):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(supervisor), "the end of the supervisor")
    assert is_alive(daemon)
    outcome = inner.run("-k", "short")
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert f"reaped: titled, pid {daemon}, left by an earlier session in" in outcome.text
    assert not is_alive(daemon)


@pytest.mark.parametrize("victim", ["run", "supervisor"])
def test_a_daemon_ends_with_a_run_that_was_killed_or_lost_its_supervisor(
    begun: tuple[Inner, int, int, int], victim: str
) -> None:
    inner, run, supervisor, daemon = begun
    os.kill(run if victim == "run" else supervisor, signal.SIGKILL)
    if victim == "supervisor":
        until(lambda: [pid for pid in inner.supervisors() if pid != supervisor], "another supervisor")
        assert is_alive(daemon)
        os.killpg(run, signal.SIGINT)
    until(lambda: not is_alive(daemon), "the end of the daemon")
