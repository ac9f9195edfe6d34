"""Linux: a process held by a pidfd, which reports its exit at once and sends signals to no other process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from neo_daemons import procfs
from neo_daemons.records import Identity

from .contract import ExitStatus, Process
from .spawning import disown, exit_status, exit_status_of_zombie

if TYPE_CHECKING:
    import asyncio

PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
"""Flag of pidfd_send_signal(2), Linux 6.9, include/uapi/linux/pidfd.h."""
PIDFD_INFO_EXIT = 1 << 3
"""Mask bit of the ioctl below, Linux 6.15, same header."""
PIDFD_INFO = struct.Struct("=QQIIIIIIIIIIIi")
"""struct pidfd_info in its first, 64-byte version: mask, cgroupid, pid, tgid, ppid, eight ids, exit_code."""
PIDFD_GET_INFO = (3 << 30) | (PIDFD_INFO.size << 16) | (0xFF << 8) | 11
"""_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)."""
EXITS_PER_TURN = 100
"""Exits that are dealt with in one turn of the event loop, for some milliseconds. In the next turn the kernel reports
the others again, beside the requests of clients."""
TRACED_POLL_S = 0.05
REAPED_SOON_S = (0.0005, 0.001, 0.002)
REAPED_LATE_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""The kernel reports that an adopted process exited with code 0 once its parent, pid 1, has reaped it, which may take a
second. After the first delays the exit is reported without a code; during the others the code is still asked for."""


def has_ended(pidfd: int) -> bool:
    """Whether the process has exited, reaped or not."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def exit_status_of_adopted(pidfd: int) -> ExitStatus | None:
    """Return how a process that is not our child exited; None if the kernel does not report it, or not yet."""
    buffer = bytearray(PIDFD_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, buffer)
    except OSError:
        return None  # no such ioctl, or it has not been reaped
    mask, *_, code = PIDFD_INFO.unpack(buffer)
    return exit_status(os.waitstatus_to_exitcode(code)) if mask & PIDFD_INFO_EXIT else None


def _ask_until_reaped(
    loop: asyncio.AbstractEventLoop, pidfd: int, on_learned: Callable[[ExitStatus], None], delays: Sequence[float]
) -> None:
    status = exit_status_of_adopted(pidfd)
    if status is None and delays:
        loop.call_later(delays[0], _ask_until_reaped, loop, pidfd, on_learned, delays[1:])
        return
    os.close(pidfd)
    if status is not None:
        on_learned(status)


class ExitsPerTurn:
    """How many more exits may be dealt with in this turn of the event loop."""

    def __init__(self) -> None:
        self._left: int | None = None
        """None if there was none in this turn."""

    def take(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether one more may be dealt with now."""
        if self._left is None:
            self._left = EXITS_PER_TURN
            loop.call_soon(self._next_turn)
        self._left -= 1
        return self._left >= 0

    def _next_turn(self) -> None:
        self._left = None


class PidfdProcess(Process):
    """A process held by a pidfd.

    Args:
        exits: those of all processes.
        popen: set for our own child.
        on_reaped: called with the pid once another process may have it, or once this is closed.
    """

    def __init__(
        self,
        pid: int,
        identity: Identity,
        pidfd: int,
        exits: ExitsPerTurn,
        popen: subprocess.Popen[bytes] | None,
        on_reaped: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self.pid = pid
        self.identity = identity
        self._pidfd = pidfd
        self._exits = exits
        self._popen = popen
        self._on_reaped = on_reaped
        self._on_exit: Callable[[ExitStatus], None] | None = None
        self._on_learned: Callable[[ExitStatus], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer = weakref.finalize(self, os.close, pidfd)

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        self._on_exit = on_exit
        self._on_learned = on_learned
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._readable)

    def _readable(self) -> None:
        assert self._loop is not None
        if not self._exits.take(self._loop):
            return
        self._loop.remove_reader(self._pidfd)
        if self._popen is not None:
            self._reap()
        else:
            self._ask_soon(REAPED_SOON_S)

    def _ask_soon(self, delays: Sequence[float]) -> None:
        if self._on_exit is None or self._loop is None:
            return
        status = exit_status_of_adopted(self._pidfd) or exit_status_of_zombie(self.pid, self.identity)
        if status is None and delays:
            self._loop.call_later(delays[0], self._ask_soon, delays[1:])
            return
        if status is None and self._on_learned is not None:
            # This takes its own descriptor, since the process is closed as soon as its exit is reported.
            with contextlib.suppress(OSError):  # without a free descriptor the code stays unknown
                _ask_until_reaped(self._loop, os.dup(self._pidfd), self._on_learned, REAPED_LATE_S)
        self._deliver(status or ExitStatus())

    def _reap(self) -> None:
        if self._popen is None or self._loop is None or self._on_exit is None:
            return
        code = self._popen.poll()
        if code is None:  # it has exited, but a tracer (strace, a debugger) still holds it
            self._loop.call_later(TRACED_POLL_S, self._reap)
        else:
            self._on_reaped(self.pid)
            self._deliver(exit_status(code))

    def _deliver(self, status: ExitStatus) -> None:
        on_exit, self._on_exit = self._on_exit, None
        if on_exit is not None:
            on_exit(status)

    def is_alive(self) -> bool:
        return self._finalizer.alive and not has_ended(self._pidfd)

    def is_stopped(self) -> bool:
        stat = procfs.stat(self.pid)
        return self.is_alive() and stat is not None and stat[0] == "T"

    def signal(self, signum: int) -> bool:
        return self._send(signum, 0)

    def signal_group(self, signum: int) -> bool:
        try:
            # The pidfd leads the kernel to the group, even when its leader has been reaped. No number is looked up that
            # another process could have by now.
            return self._send(signum, PIDFD_SIGNAL_PROCESS_GROUP)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Linux < 6.9: by number, and only while the leader keeps that number taken.
        if not self._send(0, 0):
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def _send(self, signum: int, flags: int) -> bool:
        if not self._finalizer.alive:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, signum, None, flags)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        self._on_exit = None
        if self._loop is not None and self._finalizer.alive and not self._loop.is_closed():
            self._loop.remove_reader(self._pidfd)
        self._finalizer()
        if self._popen is not None:
            self._on_reaped(self.pid)
            disown(self._popen)
