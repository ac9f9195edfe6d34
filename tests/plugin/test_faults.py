"""Whatever strikes a run, however its tests are distributed: no orphan, nobody else hurt, one start per daemon, and no
test lost but the one that was struck."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import TOY, Child, is_alive

from .inner import LIVE, Inner

MODES = {
    "alone": (),
    "n1": ("-n", "1"),
    "n4": ("-n", "4"),
    "loadfile": ("-n", "2", "--dist", "loadfile"),
    "worksteal": ("-n", "2", "--dist", "worksteal"),
}
FILES, PER_FILE = 3, 3
TESTS = FILES * PER_FILE

STRIKES = {
    "none": "passed",
    "failing test": "failed",
    "setup error": "error",
    "SIGKILL of the supervisor": "passed",
    "SIGKILL of a daemon": "failed",
    "SIGSTOP of a daemon": "failed",
    "SIGKILL of a worker": "error",
}
"""Fault → how the test that is struck ends."""
USUAL = {
    "none": "worksteal",
    "failing test": "alone",
    "setup error": "loadfile",
    "SIGKILL of the supervisor": "n4",
    "SIGKILL of a daemon": "n4",
    "SIGSTOP of a daemon": "n1",
    "SIGKILL of a worker": "n4",
    "-x": "loadfile",
    "pytest.exit": "n4",
    "Ctrl-C": "n4",
    "SIGTERM": "alone",
    "SIGKILL of the controller": "worksteal",
}
"""Fault → the mode in which every run of the suite has it, so that each mode has some. The environment ``matrix`` has
the other pairs, and ``oldest`` two of those without workers."""
ENDED_BY_XDIST = {
    # That is the SIGKILL of the controller, below.
    ("SIGKILL of a worker", "alone"),
    # xdist's own: it gives the dead worker's finished files out again, and may then wait for ever
    # (github.com/pytest-dev/pytest-xdist/issues/1378). Without replacement it does not: the run that ends early, below.
    ("SIGKILL of a worker", "loadfile"),
}
"""Fault and mode after which a run does not go on, for no reason of ours."""

STRUCK = """

def test_struck(broken, api, strike):
    strike()
"""


def in_mode(mode: str, fault: str, *more: str) -> Any:
    """The values of a test, the mode last."""
    marks = [pytest.mark.long if mode == USUAL[fault] else pytest.mark.matrix]
    if mode == "alone" and fault in ("failing test", "setup error"):
        marks.append(pytest.mark.oldest)
    return pytest.param(fault, *more, mode, marks=marks)


WORKERS = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, marks=pytest.mark.long if mode == "n4" else pytest.mark.matrix)
        for mode in MODES
        if mode != "alone"
    ],
)


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process like those of the run, and none of its business."""
    with Child([*TOY, "quiet"], stdout=subprocess.DEVNULL) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


def write(inner: Inner, fault: str) -> None:
    inner.env["FAULT"] = fault
    # Only where it is to strike: on a busy machine it could do so elsewhere too.
    live = {"live": LIVE} if fault == "SIGSTOP of a daemon" else {}
    inner.configure(api=inner.toy(**live), other=inner.toy())
    inner.copy("faults_conftest.py", "conftest.py")
    for file in range(FILES):
        inner.copy("faults_others.py", f"test_{file}.py")
    with (inner.root / "test_0.py").open("a") as struck:
        struck.write(STRUCK)


def ran(inner: Inner) -> int:
    return len(list(inner.root.glob("ran-*")))


@pytest.mark.parametrize(
    ("fault", "struck", "mode"),
    [
        in_mode(mode, fault, struck)
        for fault, struck in STRIKES.items()
        for mode in MODES
        if (fault, mode) not in ENDED_BY_XDIST
    ],
)
def test_a_run_survives_every_fault(inner: Inner, bystander: int, fault: str, struck: str, mode: str) -> None:
    write(inner, fault)
    outcome = inner.run(*MODES[mode])
    assert inner.left() == []
    assert [result for name, result in outcome.results.items() if "test_struck" in name] == [struck], outcome.text
    others = {name: result for name, result in outcome.results.items() if "test_struck" not in name}
    assert len(others) == TESTS
    lost = {name for name, result in others.items() if result != "passed"}
    if fault.endswith("of a daemon"):
        # Tests that were using it at that moment, on other workers: each says that it was not its own fault.
        lost -= set(outcome.hit)
    assert lost == set(), outcome.text
    assert ran(inner) >= TESTS - len(outcome.hit)
    assert inner.starts() == (2 if fault.endswith("of a daemon") else 1)


@pytest.mark.parametrize(("fault", "mode"), [in_mode(mode, fault) for fault in ("-x", "pytest.exit") for mode in MODES])
def test_a_run_that_ends_early_leaves_nothing(inner: Inner, bystander: int, fault: str, mode: str) -> None:
    write(inner, fault)
    outcome = inner.run(*MODES[mode], *(["-x"] if fault == "-x" else []))
    assert outcome.code in (1, 2)
    assert inner.left() == []
    assert inner.starts() == 1


@WORKERS
def test_a_worker_that_is_killed_and_not_replaced_leaves_nothing(inner: Inner, bystander: int, mode: str) -> None:
    write(inner, "SIGKILL of a worker")
    outcome = inner.run(*MODES[mode], "--max-worker-restart", "0")
    assert outcome.code == 1
    assert inner.left() == []
    assert inner.starts() == 1


@pytest.mark.parametrize(
    ("fault", "mode"),
    [in_mode(mode, fault) for fault in ("Ctrl-C", "SIGTERM", "SIGKILL of the controller") for mode in MODES],
)
def test_an_interrupted_or_killed_run_leaves_nothing(inner: Inner, bystander: int, fault: str, mode: str) -> None:
    write(inner, fault)
    process = inner.popen(*MODES[mode])
    inner.reaches("here")
    match fault:
        case "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        case "SIGTERM":
            process.terminate()
        case _:
            process.kill()
    outcome = inner.end(process)
    assert outcome.code in ((2,) if fault == "Ctrl-C" else (-signal.SIGTERM, -signal.SIGKILL)), outcome.text
    inner.wait_until_nothing_is_left()
    assert inner.starts() == 1


@WORKERS
def test_daemons_outlive_a_worker_that_runs_out_of_tests(inner: Inner, mode: str) -> None:
    inner.configure(api=inner.toy())
    inner.env["FAULT"] = "none"
    inner.copy("faults_conftest.py", "conftest.py")
    inner.copy("long_and_short.py", "test_long.py")
    inner.write(
        "plug.py",
        """
        import os, pathlib

        def pytest_sessionfinish():
            worker = os.environ.get("PYTEST_XDIST_WORKER")
            if worker:
                pathlib.Path(f"gone-{worker}").touch()
        """,
    )
    inner.env["PYTHONPATH"] = str(inner.root)
    outcome = inner.run("-p", "plug", "-n", "4" if mode == "n4" else "1" if mode == "n1" else "2", *MODES[mode][2:])
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert inner.left() == []
    assert inner.starts() == 1


def test_two_runs_at_once_are_independent(inner: Inner) -> None:
    write(inner, "Ctrl-C")
    first = inner.popen("test_0.py")
    inner.reaches("here")
    inner.env["FAULT"] = "none"
    second = inner.run("test_1.py", "test_2.py")
    assert second.counts() == {"passed": 2 * PER_FILE}
    assert len(inner.supervisors()) == 1
    first.kill()
    first.wait()
    inner.wait_until_nothing_is_left()
    assert inner.starts() == 2


def test_leftovers_of_dead_runs_are_reaped_and_reported(inner: Inner) -> None:
    write(inner, "SIGKILL of the controller")
    first = inner.popen("test_0.py")
    inner.reaches("here")
    (supervisor,) = inner.supervisors()
    ((pid, _),) = inner.daemons()
    # Both at once: neither can see to what the other leaves.
    os.kill(first.pid, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    first.kill()
    first.wait()
    assert is_alive(pid)
    inner.env["FAULT"] = "none"
    second = inner.run("test_1.py")
    assert not is_alive(pid)
    assert f"reaped: api, pid {pid}, left by an earlier session in" in second.text
    assert inner.left() == []
