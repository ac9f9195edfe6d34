"""BSD and macOS: kqueue(2) reports an exit at once, with its status, for children and all others that we may signal.

All processes of an event loop share one queue, since macOS allows a process 256 descriptors by default. Identities,
marks and lock holders are those of any POSIX system.

macOS tells the exit status if it is asked for by NOTE_EXITSTATUS: of children by its manual, and by its kernel of each
process that we may signal. By their manuals FreeBSD, NetBSD and OpenBSD always tell it. They were never tried.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neo_daemons.records import Identity, Unseen

from . import spawning
from .contract import ExitStatus
from .polled import ON_LINUX, PolledProcess
from .posix import PosixPlatform

if TYPE_CHECKING:
    import asyncio

NOTE_EXITSTATUS = 0x04000000
"""bsd/sys/event.h of XNU; Python's `select` lacks it."""
STATUS = 0xFFFF
"""The bits of an event's data that hold the status, as wait(2) returns it."""
ALWAYS_TELLS: bool = sys.platform.startswith(("freebsd", "dragonfly", "netbsd", "openbsd"))
EVENTS = 64
"""Events that are taken from the queue at a time; those left have the event loop call again."""
WAITABLE_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Delays between attempts to get the status of a child from waitpid(2), which may know of its exit only after kqueue
does (https://github.com/libuv/libuv/pull/3521). The last one is repeated, since a debugger may hold the child."""
_kqueue: Any = select
"""The part of `select` that Linux lacks."""


class Exits:
    """Tells the exits of processes to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queue = _kqueue.kqueue()
        self._told: dict[int, list[Callable[[ExitStatus | None], None]]] = {}
        loop.add_reader(self._queue.fileno(), self._take)

    def add(self, pid: int, tell: Callable[[ExitStatus | None], None]) -> None:
        """Call `tell` once, with the exit status if the system tells it, when the process exits.

        Raises:
            ProcessLookupError: it has exited, whether it was reaped or not.
            OSError: it cannot be watched.
        """
        try:
            self._change(pid, _kqueue.KQ_EV_ADD | _kqueue.KQ_EV_ONESHOT, 0 if ALWAYS_TELLS else NOTE_EXITSTATUS)
        except PermissionError:  # we may not signal it, so only the exit itself is told
            self._change(pid, _kqueue.KQ_EV_ADD | _kqueue.KQ_EV_ONESHOT)
        self._told.setdefault(pid, []).append(tell)

    def drop(self, pid: int, tell: Callable[[ExitStatus | None], None]) -> None:
        """Tell nothing more to `tell`."""
        told = self._told.get(pid, [])
        if tell in told:
            told.remove(tell)
            if not told:
                del self._told[pid]
                with contextlib.suppress(OSError):  # it has exited, and its event was taken or waits to be ignored
                    self._change(pid, _kqueue.KQ_EV_DELETE)

    def _change(self, pid: int, flags: int, notes: int = 0) -> None:
        notes |= _kqueue.KQ_NOTE_EXIT
        self._queue.control([_kqueue.kevent(pid, _kqueue.KQ_FILTER_PROC, flags, notes)], 0, 0)

    def _take(self) -> None:
        for event in self._queue.control(None, EVENTS, 0):
            status = None
            if ALWAYS_TELLS or event.fflags & NOTE_EXITSTATUS:
                status = spawning.exit_status(os.waitstatus_to_exitcode(event.data & STATUS))
            for tell in self._told.pop(event.ident, ()):
                tell(status)


class KqueueProcess(PolledProcess):
    """A process whose exit kqueue reports.

    Args:
        exits: returns what tells exits to an event loop.
    """

    def __init__(
        self,
        pid: int,
        identity: Identity,
        popen: subprocess.Popen[bytes] | None,
        on_closed: Callable[[int], None],
        identify: Callable[[int], Identity | None],
        exits: Callable[[asyncio.AbstractEventLoop], Exits],
    ) -> None:
        super().__init__(pid, identity, popen, on_closed, identify)
        self._exits_of = exits
        self._exits: Exits | None = None
        self._has_exited = False

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        import asyncio

        self._on_exit = on_exit
        loop = asyncio.get_running_loop()
        try:
            exits = self._exits_of(loop)
            exits.add(self.pid, self._told)
        except ProcessLookupError:
            self._timer = loop.call_later(0, self._told, None)
            return
        except OSError:  # no descriptor is left for the queue, or it is not ours to watch
            super().watch(on_exit, on_learned)
            return
        self._exits = exits
        # Only now is it sure that the one that is watched is the one that was opened. A child keeps its number.
        if self._popen is None and self._has_passed_on():
            exits.drop(self.pid, self._told)
            self._timer = loop.call_later(0, self._told, None)

    def _has_passed_on(self) -> bool:
        """Whether the number is seen to be that of a zombie, of another process, or of none."""
        from .installed import psutil

        try:
            return not self._proven()
        except (psutil.Error, Unseen):  # unknown is not dead
            return False

    def _told(self, status: ExitStatus | None) -> None:
        self._has_exited = True
        if status is not None or self._popen is None:
            self._deliver(status or self._status_of_zombie() or ExitStatus())
        else:
            self._wait(0)

    def _status_of_zombie(self) -> ExitStatus | None:
        return spawning.exit_status_of_zombie(self.pid, self.identity) if ON_LINUX else None

    def _wait(self, attempt: int) -> None:
        """Get the status of a child that has exited."""
        import asyncio

        if self._popen is None or self._on_exit is None:
            return
        status = spawning.ended(self._popen)
        if status is None:
            delay_s = WAITABLE_S[min(attempt, len(WAITABLE_S) - 1)]
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wait, attempt + 1)
        else:
            self._deliver(status)

    def _deliver(self, status: ExitStatus) -> None:
        on_exit, self._on_exit = self._on_exit, None
        if on_exit is not None:
            on_exit(status)

    def is_alive(self) -> bool:
        # waitpid(2) is not asked: where it cannot look without reaping, it would free the number of the group.
        if self._has_exited:
            return False
        return not self._has_passed_on() if self._popen is not None else self._proven()

    def close(self) -> None:
        if self._exits is not None:
            self._exits.drop(self.pid, self._told)
            self._exits = None
        super().close()


class KqueuePlatform(PosixPlatform):
    """See `contract.Platform`."""

    process_type = KqueueProcess

    def __init__(self) -> None:
        super().__init__()
        self._exits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Exits] = weakref.WeakKeyDictionary()

    @property
    def name(self) -> str:
        return "kqueue"

    def _process(
        self,
        pid: int,
        identity: Identity,
        popen: subprocess.Popen[bytes] | None = None,
        on_closed: Callable[[int], None] = lambda pid: None,
    ) -> PolledProcess:
        return self.process_type(pid, identity, popen, on_closed, self._identify, self._exits_of)

    def _exits_of(self, loop: asyncio.AbstractEventLoop) -> Exits:
        exits = self._exits.get(loop)
        if exits is None:
            exits = self._exits[loop] = Exits(loop)
        return exits

    def become_subreaper(self) -> bool:
        return False
