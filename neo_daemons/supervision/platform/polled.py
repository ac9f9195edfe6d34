"""A process that is known by its number, on any POSIX system.

The exit of a process that is not our child is polled for, and its identity is proven right before each signal, which
leaves a gap between check and kill.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from neo_daemons import procfs
from neo_daemons.records import Identity, Unseen

from . import spawning
from .contract import ExitStatus, Process

if TYPE_CHECKING:
    import asyncio

ON_LINUX: bool = sys.platform == "linux"
POLL_S = 0.1
"""Seconds between two checks for the exit of a process that no event reports."""


def identity_of(pid: int) -> Identity | None:
    """Return the identity of a running process; None if it is gone or a zombie.

    On Linux it is that which observers see, in ticks since the boot: psutil's moments move with the clock.

    Raises:
        psutil.AccessDenied, Unseen: it cannot be read.
    """
    if ON_LINUX:
        return procfs.identify(pid)
    from .installed import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return Identity(boot_id="", start_time=process.create_time())
    except psutil.NoSuchProcess:
        return None


class PolledProcess(Process):
    """A process that is known by its number; `popen` is set for a child.

    A child that has exited is reaped when this is closed: until then no other process and no other group has its
    number.

    Args:
        on_closed: called with the pid when this is closed.
        identify: returns the identity of a running process, as `identity_of` does.
    """

    def __init__(
        self,
        pid: int,
        identity: Identity,
        popen: subprocess.Popen[bytes] | None,
        on_closed: Callable[[int], None] = lambda pid: None,
        identify: Callable[[int], Identity | None] = identity_of,
    ) -> None:
        self.pid = pid
        self.identity = identity
        self._popen = popen
        self._identify = identify
        self._on_closed = on_closed
        self._timer: asyncio.TimerHandle | None = None
        self._on_exit: Callable[[ExitStatus], None] | None = None

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        import asyncio

        self._on_exit = on_exit
        # Not at once: the caller must first store what it watches.
        self._timer = asyncio.get_running_loop().call_later(0, self.look)

    def look(self) -> None:
        """Report the exit of the process if it has exited, and look again later if not."""
        import asyncio

        from .installed import psutil

        if self._on_exit is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            status = self._ended()
        except (psutil.Error, Unseen):  # it cannot be read now, and unknown is not dead
            status = None
        if status is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_S, self.look)
        else:
            on_exit, self._on_exit = self._on_exit, None
            on_exit(status)

    def _ended(self) -> ExitStatus | None:
        """Return how the process exited; None if it has not."""
        if self._popen is not None:
            return spawning.ended(self._popen)
        return None if self._proven() else spawning.exit_status_of_zombie(self.pid, self.identity) or ExitStatus()

    def _proven(self) -> bool:
        identity = self._identify(self.pid)
        return identity is not None and identity.matches(self.identity)

    def is_alive(self) -> bool:
        return self._ended() is None

    def is_stopped(self) -> bool:
        from .installed import psutil

        with contextlib.suppress(psutil.Error):
            return self.is_alive() and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        return False

    def signal(self, signum: int) -> bool:
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def signal_group(self, signum: int) -> bool:
        # The id of an empty group can be given to a new process. So a group is signalled by number only while its
        # leader keeps that number: while it runs or, if it is our child, until it is reaped.
        if not (self._popen is not None and self._popen.returncode is None) and not self.is_alive():
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS: also for a group of zombies
            return self.signal(signum)
        return True

    def close(self) -> None:
        self._on_exit = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._popen is not None:
            spawning.disown(self._popen)
        self._on_closed(self.pid)
