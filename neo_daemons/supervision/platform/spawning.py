"""Spawn a child in its own session, and decode its exit status."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from neo_daemons import procfs
from neo_daemons.definitions import Account, SignalName
from neo_daemons.records import Identity

from . import programs
from .contract import ExitStatus, SpawnSpec

STDERR = 2
STOP_SIGNALS = tuple(getattr(signal, name) for name in get_args(SignalName) if name != "SIGKILL")
EXIT_CODE = 49
"""Position of the exit code among the fields of /proc/PID/stat that follow the name; see proc_pid_stat(5)."""
_disowned: list[subprocess.Popen[bytes]] = []
"""Children that keep running without a `Process`."""


def exit_status(returncode: int) -> ExitStatus:
    """Decode the return code of `subprocess`: a negative code is a signal."""
    if returncode >= 0:
        return ExitStatus(code=returncode)
    try:
        return ExitStatus(signal=signal.Signals(-returncode).name)
    except ValueError:
        return ExitStatus(signal=f"signal {-returncode}")


def exit_status_of_zombie(pid: int, identity: Identity) -> ExitStatus | None:
    """Return how a process exited that is not our child and that its parent has not reaped yet: a container's first
    process may never do that. None if it is not known."""
    code = _code_of_zombie(pid, identity)
    if code == 0 and not (_may_know(pid) and _code_of_zombie(pid, identity) == 0):
        return None
    return None if code is None else exit_status(os.waitstatus_to_exitcode(code))


def _code_of_zombie(pid: int, identity: Identity) -> int | None:
    try:
        stat = procfs.stat(pid)
    except OSError:  # no descriptor is left, or /proc is hidden
        return None
    if stat is None or stat[0] != "Z" or float(stat[19]) != identity.start_time or len(stat) <= EXIT_CODE:
        return None
    return int(stat[EXIT_CODE])


def _may_know(pid: int) -> bool:
    """Whether the kernel tells us the exit code of a zombie; if not, it says 0. It tells whoever may follow the link to
    the program, which a zombie has no more: ptrace_may_access in fs/proc/array.c and fs/proc/base.c."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError as error:
        return error.errno == errno.ENOENT
    return False


def ended(popen: subprocess.Popen[bytes]) -> ExitStatus | None:
    """Return how a child exited, without reaping it where the system allows that; None if it has not exited."""
    if popen.returncode is not None or not hasattr(os, "waitid"):  # macOS has it from Python 3.13 on
        code = popen.poll()
        return None if code is None else exit_status(code)
    try:
        found = os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # somebody else has reaped it
        code = popen.poll()
        return None if code is None else exit_status(code)
    if found is None:
        return None
    return exit_status(found.si_status if found.si_code == os.CLD_EXITED else -found.si_status)


def disown(popen: subprocess.Popen[bytes]) -> None:
    """Stop tracking a child that keeps running. If it exits, the next spawn reaps it."""
    if popen.poll() is None:
        _disowned.append(popen)


@contextlib.contextmanager
def _no_signal_ignored() -> Iterator[None]:
    """Let a child start with its stop signals at their defaults. ``nohup`` and a script's ``&`` leave signals ignored,
    and a child would inherit that and never see its stop signal. A handler that does nothing is reset in the child."""
    ignored = [signum for signum in STOP_SIGNALS if signal.getsignal(signum) is signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        ignored = []  # only the main thread may change that
    for signum in ignored:
        signal.signal(signum, lambda *_: None)
    try:
        yield
    finally:
        for signum in ignored:
            signal.signal(signum, signal.SIG_IGN)


def keep_descriptors_to_ourselves() -> None:
    """Make all descriptors that we were started with not inheritable. Those that Python opens are so anyway."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # of the listing itself
            if int(number) > STDERR:
                os.set_inheritable(int(number), False)


@contextlib.contextmanager
def _inheritable(descriptors: Sequence[int]) -> Iterator[None]:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)


def _as(account: Account | None) -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` that start a process as another user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": account.groups}


def spawn(spec: SpawnSpec, *, close_others: bool = True) -> subprocess.Popen[bytes]:
    """Start a process.

    Args:
        close_others: close all descriptors in the child that it is not meant to inherit, one by one, which takes a
            millisecond for some hundred. Not needed after `keep_descriptors_to_ourselves`, in a process whose threads
            spawn nothing.

    Raises:
        OSError: it could not be started; the message names the file.
    """
    _disowned[:] = [popen for popen in _disowned if popen.poll() is None]
    found = programs.find(spec.command[0], spec.env, spec.cwd)
    # If env(1) does not find a script's interpreter, it only writes that to the log and exits.
    fault = programs.script_fault(found, spec.env, spec.cwd) if found is not None else None
    if fault is not None:
        raise FileNotFoundError(errno.ENOENT, fault)
    try:
        with _no_signal_ignored(), _inheritable(() if close_others else spec.inherit):
            return subprocess.Popen(
                list(spec.command),
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=spec.output,
                stderr=spec.output,
                start_new_session=True,
                **_as(spec.account),
                close_fds=close_others,
                pass_fds=tuple(spec.inherit) if close_others else (),
            )
    except OSError as error:
        if spec.account is not None and error.errno == errno.EACCES:
            raise OSError(error.errno, f"{spec.command[0]}: {spec.account.name} may not run it") from None
        raise OSError(error.errno, programs.explain(error, spec.command, spec.env, spec.cwd)) from None
