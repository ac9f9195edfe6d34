"""Fixtures of all tests, and what keeps the tests apart: a test that fails does not have others fail."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from neo_daemons import registry
from neo_daemons.supervision.platform import PLATFORM_VARIABLE

from . import guard, strays
from .harness import Project

FAILED = pytest.StashKey[bool]()
EMULATED = "EMULATED_SYSTEM"
"""Environment variable that is set where tests/macos/emulation.py is at work."""
ENDING_S = 10.0
"""What a test has told to end gets this long; it takes milliseconds on a quiet machine."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of its own. The test fails if its supervisors, ended by SIGTERM, leave a process."""
    project = Project(tmp_path)
    yield project
    left = project.close()
    assert not left, f"left running: {left}"


# Processes


def pytest_configure(config: pytest.Config) -> None:
    """Fork off the guard of the run, which needs the true standard error and not what is captured."""
    if hasattr(config, "workerinput"):
        return
    os.environ[registry.VARIABLE] = place = tempfile.mkdtemp(prefix="registry-")  # not that of the developer
    config.add_cleanup(lambda: shutil.rmtree(place, ignore_errors=True))
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
        guard.stand()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs Linux where another platform is forced or emulated; the summary says why."""
    forced = os.environ.get(EMULATED, os.environ.get(PLATFORM_VARIABLE))
    marks = {"kqueue": ("linux",), "posix": ("linux",), "macos": ("linux", "not_macos")}
    for item in items:
        for mark in filter(None, map(item.get_closest_marker, marks.get(forced or "", ()))):
            item.add_marker(pytest.mark.skip(reason=f"not by {forced}: {mark.args[0]}"))


@pytest.fixture(scope="session", autouse=True)
def _signals_are_not_ignored() -> Iterator[None]:
    """Under ``nohup`` and in a script's background SIGINT, SIGQUIT and SIGHUP are ignored, and every child inherits
    that. A signal that is caught is not: this process goes on ignoring them, and its children begin as usual."""
    ignored = [s for s in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_IGN]
    for signum in ignored:
        signal.signal(signum, lambda *_: None)
    yield
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def _no_process_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test ends with every process that it has started. What fixtures of more than one test have started is
    older than this one, and is left to them."""
    tag = f"{os.getpid()}:{request.node.nodeid}"
    uses = {"project", "inner", "tmp_path"} & set(request.fixturenames)
    root: Path | None = request.getfixturevalue("tmp_path") if uses else None
    os.environ[strays.TAG] = tag
    newest = strays.newest()
    yield
    os.environ.pop(strays.TAG, None)
    if strays.newest() == newest:  # which is quicker to see than that all processes are others'
        return
    failed = request.node.stash.get(FAILED, False)
    find = strays.tagged(tag, root if failed or uses != {"tmp_path"} else None)
    deadline = time.monotonic() + (0.0 if failed else ENDING_S)
    while find() and time.monotonic() < deadline:
        time.sleep(0.02)
    left = strays.end(find)
    assert failed or not left, f"left running: {left}"


# What a failed test leaves in this process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """After a failure: what only its traceback has kept is finalized now. An unclosed socket would be noticed whenever
    the garbage is collected, and be the fault of the test that runs then."""
    before = set(threading.enumerate())
    result = yield
    if item.stash.get(FAILED, False):
        _orphaned_threads.update(set(threading.enumerate()) - before)
        sys.last_type = sys.last_value = sys.last_traceback = None
        if hasattr(sys, "last_exc"):
            del sys.last_exc
        hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        try:
            for _ in range(2):  # what a finalizer lets go of goes with the next
                gc.collect()
        finally:
            sys.unraisablehook = hook
    return result


_orphaned_threads: set[threading.Thread] = set()


@pytest.fixture(scope="session", autouse=True)
def _threads_of_failed_tests_are_not_heard() -> Iterator[None]:
    """A thread cannot be ended from outside. What is raised in one that a failed test has left is not the fault of the
    test that runs then."""
    hook = threading.excepthook

    def heard(args: threading.ExceptHookArgs) -> None:
        if args.thread not in _orphaned_threads:
            hook(args)

    threading.excepthook = heard
    yield
    threading.excepthook = hook
