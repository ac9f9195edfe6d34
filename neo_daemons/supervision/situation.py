"""How a daemon stands, as others are told, and the event by which they learn that this has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from neo_daemons.status import Cause

from .broadcast import Broadcast


class Situation:
    """What is said of a daemon besides the name of its state.

    Args:
        any_changed: of all daemons together; is notified besides.
    """

    def __init__(self, any_changed: Broadcast) -> None:
        self.since = time.time()
        """When it came into its state; seconds since the epoch."""
        self.detail: str | None = None
        self.remedy: str | None = None
        self.cause: Cause | None = None
        """Of the state, where there is one."""
        self.waiting_for: str | None = None
        """The daemon that must be ready, or started, before this one starts."""
        self.overdue = False
        """It has used up its grace, and its probes cannot tell whether it is ready: nobody waits for that."""
        self._any_changed = any_changed
        self._changed = Broadcast()

    def enter(self, detail: str | None, remedy: str | None, cause: Cause | None) -> None:
        """The daemon comes into a state. Whoever waits is told by `notify`, when that is complete."""
        self.since = time.time()
        self.detail, self.remedy, self.cause = detail, remedy, cause
        self.overdue = False

    def progress(self, detail: str | None) -> None:
        """Show something while a state lasts; it is not for the journal."""
        if detail != self.detail:
            self.detail = detail
            self.notify()

    def set_overdue(self, overdue: bool) -> None:
        """Say whether the daemon is overdue: whoever waits for it need not any longer."""
        if overdue != self.overdue:
            self.overdue = overdue
            self.notify()

    def notify(self) -> None:
        """Wake whoever waits for a change of this daemon."""
        self._changed.notify()
        self._any_changed.notify()

    async def change(self, timeout_s: float | None = None) -> None:
        """Until something changes about this daemon, or `timeout_s` has passed."""
        await self._changed.wait(timeout_s)

    async def wait_for(self, reached: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Until `reached` holds; False if `timeout_s` passed first."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not reached():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self._changed.wait(left)
        return True
