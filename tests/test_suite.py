"""A test that fails, hangs or is interrupted harms no other test and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .harness import PATIENCE_S, PROGRAMS, until
from .strays import children, environment, living

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
CHAIN = """
import os, time
end = time.monotonic() + 60  # should nobody end it
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.002)
"""
"""Forks repeatedly, each time into its own session and group."""
CONFTEST = """
import tests.conftest

pytest_plugins = ["tests.conftest"]
tests.conftest.ENDING_S = 0.2
"""
HEAD = """
import os, signal, socket, subprocess, sys, threading, time

def start(*command, **options):
    process = subprocess.Popen(command, env={"MARK": os.environ["RUN"]}, start_new_session=True, **options)
    process.returncode = 0  # nobody waits for it
    return process
"""


class Run:
    """A separate test run, with this suite's conftest.py."""

    def __init__(self, root: Path, tests: str) -> None:
        self.root = root
        self.mark = f"run-of-{root.name}-{os.getpid()}"
        (root / "conftest.py").write_text(CONFTEST)
        (root / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        (root / "test_it.py").write_text(HEAD + tests)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "STARTED_"))}
        self.env = env | {"PYTHONPATH": str(ROOT), "RUN": self.mark}

    def popen(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        without = ("cacheprovider", "randomly", "asyncio", "anyio", "hypothesispytest")
        options = ["-q", *(f"-pno:{name}" for name in without)]
        command = [*prefix, sys.executable, "-m", "pytest", *options, *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> str:
        """All that it printed."""
        text, _ = process.communicate(timeout=PATIENCE_S)
        return text

    def left(self) -> list[int]:
        return [pid for pid in living() if f"\0MARK={self.mark}\0".encode() in environment(pid)]


MODES = {"alone": (), "n2": ("-n2",)}
if importlib.util.find_spec("xdist") is None:
    del MODES["n2"]


def in_turn(values: Iterable[Any]) -> list[Any]:
    """Each value with each mode. Every run of the suite has each value once, and `matrix` has the other pairs."""
    return [
        pytest.param(
            value,
            mode,
            id=f"{getattr(value, 'name', value)}-{mode}",
            marks=[] if index % len(MODES) == number else pytest.mark.matrix,
        )
        for index, value in enumerate(values)
        for number, mode in enumerate(MODES)
    ]


def test_leftovers_of_a_failed_test_in_its_process_do_not_fail_its_neighbours(tmp_path: Path) -> None:
    run = Run(tmp_path, (PROGRAMS / "kept_by_failed_tests.py").read_text())
    text = run.end(run.popen())
    assert "2 failed, 2 passed" in text, text
    assert "FAILED test_it.py::test_sockets" in text
    assert "FAILED test_it.py::test_thread" in text


def test_a_test_that_leaves_a_process_fails_and_the_process_is_stopped(tmp_path: Path) -> None:
    run = Run(
        tmp_path,
        """
def test_leaves():
    subprocess.Popen(["sleep", "600"]).returncode = 0

def test_next():
    pass
""",
    )
    text = run.end(run.popen())
    assert "2 passed, 1 error" in text, text
    assert re.search(r"left running: .*pid \d+ \(sleep 600; of test_it.py::test_leaves\)", text), text
    assert "LEFT BY THE TESTS" not in text
    assert run.left() == []


ENDS = {
    "passes": ("pass", 1),
    "fails": ("assert False", 1),
    "ends its own process as pytest-timeout does": ("os._exit(1)", 1),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
}


@pytest.mark.parametrize(("way", "mode"), in_turn(ENDS))
def test_everything_that_tests_started_is_stopped_with_the_run(tmp_path: Path, way: str, mode: str) -> None:
    """They are found by group, session and descent, as they carry no other mark."""
    last, code = ENDS[way]
    run = Run(tmp_path, f"\nCHAIN = {CHAIN!r}\n\ndef test_it():\n    start('sleep', '600')\n    "
                        f"start(sys.executable, '-c', CHAIN)\n    time.sleep(0.1)\n    {last}\n")  # fmt: skip
    process = run.popen(*MODES[mode])
    text = run.end(process)
    assert process.returncode == (code if mode == "alone" else 1), text
    assert "LEFT BY THE TESTS, and ended with the run:" in text
    assert "(sleep 600)" in text
    assert run.left() == []


@pytest.mark.parametrize(("how", "mode"), in_turn([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, how: signal.Signals, mode: str) -> None:
    run = Run(tmp_path, "\ndef test_it():\n    start('sleep', '600')\n    time.sleep(600)\n")
    process = run.popen(*MODES[mode])
    until(lambda: process.poll() is not None or run.left(), "what the test has started")
    if how == signal.SIGKILL:
        os.kill(children(process.pid)[0], how)  # to pytest itself, below its guard
    else:
        process.send_signal(how)
    text = run.end(process)
    assert process.returncode == (2 if how == signal.SIGINT else -how), text
    assert run.left() == []


@pytest.mark.parametrize("mode", MODES)
def test_processes_of_tests_do_not_inherit_ignored_signals(tmp_path: Path, mode: str) -> None:
    run = Run(
        tmp_path,
        """
NAMES = ("SIGINT", "SIGQUIT", "SIGHUP")

def test_it():
    code = f"import signal; print([signal.getsignal(getattr(signal, name)).name for name in {NAMES[1:]}])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "['SIG_DFL', 'SIG_DFL']\\n"
    for name in NAMES:
        os.kill(os.getpid(), getattr(signal, name))  # the run itself goes on ignoring them
        with subprocess.Popen(["sleep", "600"]) as child:
            child.send_signal(getattr(signal, name))
            assert child.wait() == -getattr(signal, name)
""",
    )
    ignore = "for signum in (1, 2, 3): signal.signal(signum, signal.SIG_IGN)"
    program = f"import os, signal, sys\n{ignore}\nos.execv(sys.argv[1], sys.argv[1:])"
    process = run.popen(*MODES[mode], prefix=(sys.executable, "-c", program))
    text = run.end(process)
    assert process.returncode == 0, text
