"""Determines how long a supervisor runs that is bound to leases: as long as there is one, and longer if it is kept
warm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

FIRST_LEASE_S = 10.0
"""How long a supervisor waits for a lease if the process that started it is already gone."""
OWNER = 0
"""The number of the lease that the starting process holds while it is running; the others are counted from 1."""


class Life:
    """Calls `end` when there has been no lease for `keep_s` seconds. Begins with the lease of the owner if
    `owner_lives`."""

    def __init__(self, *, owner_lives: bool, keep_s: float, end: Callable[[], None]) -> None:
        self.keep_s = keep_s
        self._end = end
        self._leases = {OWNER} if owner_lives else set()
        self._timer: asyncio.TimerHandle | None = None
        if not owner_lives:
            self._arm(FIRST_LEASE_S)

    @property
    def leases(self) -> int:
        """The number of leases."""
        return len(self._leases)

    def taken(self, lease: int, *, owner: bool) -> None:
        """Note that `lease` is held. The lease of the `owner` replaces the one that it holds while it is running."""
        self._leases.add(lease)
        if owner:
            self._leases.discard(OWNER)
        self._disarm()

    def dropped(self, lease: int) -> None:
        """Note that `lease` is no longer held."""
        self._leases.discard(lease)
        if not self._leases and self._timer is None:
            self._arm(self.keep_s)

    def _arm(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._over)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._end()
