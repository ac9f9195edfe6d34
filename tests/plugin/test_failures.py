"""Daemons that are not available: each test that needs one says why, and the run does not wait for them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.harness import toy

from .inner import PARALLEL, Inner

pytestmark = pytest.mark.long

DEPENDENT, PLAIN = 6, 2


class Failure:
    """A way not to start.

    Args:
        counter: a line is added to it for each start.
    """

    def __init__(self, counter: Path, port: int) -> None:
        self._counter = counter
        self._port = port

    def ends(self, code: int) -> dict[str, Any]:
        program = (
            "import sys; print(file=open(sys.argv[1], 'a')); print('no treasure here'); sys.exit(int(sys.argv[2]))"
        )
        return {
            "command": [sys.executable, "-IS", "-c", program, str(self._counter), str(code)],
            "ready": {"type": "log", "pattern": "never"},
        }

    def daemons(self, how: str) -> dict[str, dict[str, Any]]:
        counted = f"pidfile={self._counter}"
        match how:
            case "exits 1":
                return {"broken": self.ends(1)}
            case "exits 0":
                return {"broken": self.ends(0)}
            case "no such command":
                return {"broken": {"command": ["/nowhere/treasure"]}}
            case "port held":
                return {
                    "broken": toy(counted, port=self._port)
                    | {"command": [*toy()["command"][:-1], f"port={self._port}"]}
                }
            case "never ready":
                return {
                    "broken": toy(
                        "quiet",
                        "write=still digging",
                        counted,
                        ready={"type": "log", "pattern": "x"},
                        start_grace_s=3.0,  # in which it must have come to write, beside whatever load
                    )
                }
            case "not healthy":
                return {"broken": toy("status=503", "write=digging", counted, start_grace_s=3.0)}
            case "requires":
                return {"broken": toy(requires=["other"]), "other": self.ends(3)}
            case "unavailable":
                return {"neural-link": {"home": "/nowhere/neo"}, "broken": toy(requires=["neural-link"])}
        raise AssertionError(how)


SAID = {
    "exits 1": ("exit code 1", "no treasure here"),
    "exits 0": ("exit code 0", "no treasure here"),
    "no such command": ("/nowhere/treasure does not exist",),
    "port held": ("PORT", "python"),
    "never ready": ("not ready", "3 s", "still digging", "quiet and ready"),
    "not healthy": ("not ready", "503", "digging"),
    "requires": ("other", "exit code 3", "no treasure here"),
    "unavailable": ("neural-link", "/nowhere/neo", "checkout"),
}
"""Failure → what the error says."""
IN_WORKERS = frozenset({"exits 1", "requires"})
"""What every run of the suite has with workers. It has the others without, and `matrix` has the other pairs."""


@pytest.mark.parametrize(
    ("how", "mode"),
    [
        pytest.param(
            how, mode, id=f"{how}-{name}", marks=[] if (how in IN_WORKERS) == bool(mode) else pytest.mark.matrix
        )
        for how in SAID
        for name, mode in {"alone": (), "n2": PARALLEL}.items()
    ],
)
def test_a_daemon_that_cannot_start_is_an_error_in_the_tests_that_need_it(
    inner: Inner, how: str, mode: tuple[str, ...]
) -> None:
    counter = inner.root / "starts"
    inner.write(
        "test_needs.py",
        f"""
        import pytest

        @pytest.mark.parametrize("number", range({DEPENDENT}))
        def test_dependent(broken, number):
            raise AssertionError

        @pytest.mark.parametrize("number", range({PLAIN}))
        def test_other(good, number):
            assert good.state == "ready"

        def test_plain(): pass
        """,
    )
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = int(stranger.getsockname()[1])
        inner.configure(**Failure(counter, port).daemons(how), good=inner.toy())
        outcome = inner.run(*mode)
    assert outcome.counts() == {"error": DEPENDENT, "passed": PLAIN + 1}, outcome.text
    for case in ElementTree.fromstring(outcome.xml).iter("testcase"):
        for error in case.iter("error"):
            text = f"{error.get('message')}\n{error.text}"
            assert [word for word in SAID[how] if word.replace("PORT", str(port)) not in text] == [], text
            assert "Traceback" not in text
            assert "pytest_neo_daemons" not in text
    assert inner.starts() == 1
    starts = len(counter.read_text().splitlines()) if counter.exists() else 0
    chained = outcome.text.count("During handling of the above exception")
    # One restart each time; what is built on others gets three tries.
    assert (chained, starts) == (0, min(starts, 6 if how == "requires" else 2))
