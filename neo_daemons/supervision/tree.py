"""Signal, stop and sweep up the processes of one daemon."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

from neo_daemons.definitions import Stop
from neo_daemons.status import EventName

from .census import Census
from .ownership import Ownership
from .platform import ExitStatus, Platform, Process

SWEEP_GRACE_S = 3.0
"""Grace period between SIGTERM and SIGKILL for the leftovers of a run."""
SWEEP_POLL_S = 0.02
GIVE_UP_S = 5.0
"""A process that outlives SIGKILL by this much belongs to another user or is asleep in the kernel."""

Note = Callable[[EventName, str | None, int | None], None]
"""Adds a journal entry: event, detail, pid."""


class Tree:
    """The process tree of a daemon, across all its runs.

    Args:
        ownership: decides which processes belong to the daemon.
        census: finds the marked processes.
    """

    def __init__(
        self,
        platform: Platform,
        name: str,
        ownership: Ownership,
        note: Note,
        census: Census,
    ) -> None:
        self._platform = platform
        self._name = name
        self._ownership = ownership
        self._note = note
        self._census = census
        self._only_ours = False
        """Whether all processes of the daemon that may run were spawned by us, or descend from such a process."""
        self._hurry = asyncio.Event()

    def begin(self) -> None:
        """Note that a run begins, whose grace period is not skipped yet."""
        self._hurry.clear()

    def hurry(self) -> None:
        """Skip the grace period of the current or next stop."""
        self._hurry.set()

    async def end(self, process: Process, exited: asyncio.Future[ExitStatus], stop: Stop) -> bool:
        """Stop a run: signal, grace period, SIGKILL. Returns True when all of its processes are gone, or False if some
        cannot be stopped.

        Args:
            process: the main process.
            exited: done when it has exited.
        """
        if not exited.done():
            self.signal(process, getattr(signal, stop.signal))
            self.signal(process, signal.SIGCONT)  # a stopped process takes its signal only then
            if not await self._gone(exited, stop.grace_s):
                why = f"still there {stop.grace_s:g} s after {stop.signal}: SIGKILL"
                self._note(EventName.KILLED, "stop forced: SIGKILL" if self._hurry.is_set() else why, process.pid)
                self.signal(process, signal.SIGKILL)
                await exited
        # Nothing in its group has a purpose after the main process.
        self._signal_group(process, signal.SIGTERM)
        return await self.sweep(min(SWEEP_GRACE_S, stop.grace_s), process)

    async def _gone(self, exited: asyncio.Future[ExitStatus], grace_s: float) -> bool:
        hurry = asyncio.ensure_future(self._hurry.wait())
        waited_for: set[asyncio.Future[Any]] = {exited, hurry}
        try:
            await asyncio.wait(waited_for, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
        return exited.done()

    async def sweep(self, grace_s: float = SWEEP_GRACE_S, leader: Process | None = None) -> bool:
        """Stop the processes that carry our mark or hold our lock: strays that left the main process's group, and
        leftovers of an earlier run. Returns True when all are gone, or False if some cannot be stopped.

        Args:
            grace_s: time between SIGTERM and SIGKILL.
            leader: leads the group that is killed when the grace period is over.
        """
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        asked: set[int] = set()
        while True:
            marks = await (self._census.among_orphans() if self._only_ours else self._census.everywhere())
            left = self._ownership.of_daemon(self._name, marks)
            if not left:
                if self._ownership.is_lock_free(self._name):
                    self._only_ours = True
                    return True
                # The holder lost its mark, or belongs to a chain that forks faster than we check.
                left = self._ownership.lock_holders(self._name)
            if deadline is None:  # a look takes time
                deadline = loop.time() + grace_s
            force = loop.time() >= deadline or self._hurry.is_set()
            if loop.time() >= deadline + GIVE_UP_S:
                pids = ", ".join(str(process.pid) for process in left) or "an unidentified process"
                self._note(EventName.NOT_SWEPT, f"{pids} cannot be stopped", None)
                for process in left:
                    process.close()
                return False  # the lock stays held, and the next start will report it
            if force and leader is not None:
                self._signal_group(leader, signal.SIGKILL)  # at once for all: a chain cannot outrun it
            for process in left:
                if force:
                    self.signal(process, signal.SIGKILL)
                elif process.pid not in asked:
                    asked.add(process.pid)
                    self._note(EventName.SWEPT, f"pid {process.pid} was left behind by this daemon", process.pid)
                    self.signal(process, signal.SIGTERM, alone=True)
                    self.signal(process, signal.SIGCONT, alone=True)
                process.close()
            await asyncio.sleep(SWEEP_POLL_S)

    def signal(self, process: Process, signum: int, *, alone: bool = False) -> bool:
        """Send a signal to the group that a process leads, or only to the process if `alone` or if it leads no group.
        Returns False if no process received it."""
        if not alone and self._signal_group(process, signum):
            return True
        try:
            return process.signal(signum)
        except PermissionError as error:
            self._not_permitted(process, error)
            return False

    def _signal_group(self, process: Process, signum: int) -> bool:
        try:
            return process.signal_group(signum)
        except PermissionError as error:
            self._not_permitted(process, error)
            return False

    def _not_permitted(self, process: Process, error: PermissionError) -> None:
        """Note that we may not signal a process, e.g. one that changed its user."""
        self._note(EventName.NOT_PERMITTED, f"pid {process.pid} cannot be signalled: {error.strerror}", process.pid)
