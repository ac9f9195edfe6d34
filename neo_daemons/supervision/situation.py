"""The situation of a daemon as clients see it, with notification of changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from neo_daemons.status import Cause

from .broadcast import Broadcast, Changes


class Situation:
    """What clients see of a daemon, besides the name of its state.

    Args:
        name: whose situation it is.
        all_changes: also told of each change; shared by all daemons.
    """

    def __init__(self, name: str, all_changes: Changes) -> None:
        self._name = name
        self.since = time.time()
        """When it entered its state; seconds since the epoch."""
        self.detail: str | None = None
        self.remedy: str | None = None
        self.cause: Cause | None = None
        """The cause of the state, if any."""
        self.waiting_for: str | None = None
        """The daemon that must be ready, or started, before this one starts."""
        self.overdue = False
        """Whether its grace period is over while its probes cannot determine readiness; clients stop waiting."""
        self.missing = False
        """Whether a program that it needs was not installed when it was last to be started."""
        self._all_changes = all_changes
        self._changed = Broadcast()

    def enter(self, detail: str | None, remedy: str | None, cause: Cause | None) -> None:
        """Enter a state. The caller wakes waiters with `notify` when it is complete."""
        self.since = time.time()
        self.detail, self.remedy, self.cause = detail, remedy, cause
        self.overdue = False
        self.waiting_for = None

    def progress(self, detail: str | None) -> None:
        """Show progress within a state; it does not go to the journal."""
        if detail != self.detail:
            self.detail = detail
            self.notify()

    def set_overdue(self, overdue: bool) -> None:
        """Set whether the daemon is overdue, so that clients stop waiting for it."""
        if overdue != self.overdue:
            self.overdue = overdue
            self.notify()

    def notify(self) -> None:
        """Wake all waiters for a change of this daemon."""
        self._changed.notify()
        self._all_changes.changed(self._name)

    async def change(self, timeout_s: float | None = None) -> None:
        """Wait until this daemon changes, or `timeout_s` has passed."""
        await self._changed.wait(timeout_s)

    async def wait_for(self, reached: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until `reached` holds. Returns False if `timeout_s` passed first."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not reached():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self._changed.wait(left)
        return True
