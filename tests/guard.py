"""Stands above a test run and ends with it whatever the tests have started and left.

A fixture cannot promise that: a test that hangs ends the run by `os._exit` (pytest-timeout), a fault of an extension by
a signal, and a process may give itself another environment, group and session, and lose its parent. So pytest forks
before it begins. The child goes on as pytest; the parent stays as what the kernel gives all orphaned descendants to (a
subreaper), so that nothing of the run can get out of its sight, and ends them when pytest has ended, however it did.
The workers of pytest-xdist are children of that child: what they leave is ended when the whole run is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

from . import strays

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""prctl(2)."""
GRACE_S = 5.0
"""What is just ending when pytest has ended gets this long; it takes milliseconds on a quiet machine."""
RED_GRACE_S = 1.0
"""The same for a run that has failed, whose result no slow end can spoil."""
HEEDED = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


def stand() -> None:
    """Fork, and return in the child. Not at all where other threads run, which would not live on in it, and where the
    system has no subreapers: then the fixtures must do."""
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    guard, run = os.getpid(), os.fork()
    if run == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if os.getppid() != guard:
            os._exit(1)
        return
    try:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2:
                with contextlib.suppress(OSError):  # that of the listing
                    os.close(number)
        _watch_over(run)
    except BaseException as error:  # what pytest has set up is not this process's to unwind
        os.write(2, f"\nthe guard of the test run has failed: {error!r}\n".encode())
    os._exit(1)


def _watch_over(run: int) -> None:
    """Wait for pytest, end what is left, and end as pytest did, or with 1 if something was left."""
    status = _wait(run)
    left = _end_all(GRACE_S if status == 0 else RED_GRACE_S)
    if left:
        os.write(2, "\n".join(["", "LEFT BY THE TESTS, and ended with the run:", *left, ""]).encode())
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError):  # SIGKILL has only one disposition
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) or (1 if left else 0))


def _wait(run: int) -> int:
    """The status with which pytest ends. What is sent to this process is for pytest; what a terminal sends, both have
    got."""
    while True:
        status = _reap(run)
        if status is not None:
            return status
        caught = signal.sigtimedwait(HEEDED, 1.0)
        if caught is not None and caught.si_signo != signal.SIGCHLD and caught.si_code <= 0:
            os.kill(run, caught.si_signo)


def _reap(run: int = 0) -> int | None:
    """Reap what has ended; the status of `run`, if that was among it."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == run:
                found = status
    return found


def _end_all(grace_s: float) -> list[str]:
    """End all descendants; those that did not end by themselves."""
    deadline = time.monotonic() + grace_s
    while strays.descendants() and time.monotonic() < deadline:
        _reap()
        time.sleep(0.02)
    return strays.end(strays.descendants, _reap)
