"""Spread work that becomes due for many daemons at once over several turns of the event loop.

In each turn the loop runs everything that is ready before it looks for requests of clients. If hundreds of daemons exit
together, that would take seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

PER_TURN = 4
"""Pieces of work in one turn of the loop. Each takes up to 2 ms."""


class Turns:
    """Runs a few pieces of work in each turn of the event loop, in the order in which they became due."""

    def __init__(self) -> None:
        self._done = 0
        """How many pieces have been run in this turn."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def call(self, work: Callable[[], None]) -> None:
        """Run a piece of work: now if its turn has come, else in a later turn."""
        self._schedule()
        if self._done < PER_TURN and not self._waiting:
            self._done += 1
            work()
        else:
            self._waiting.append(work)

    async def wait(self) -> None:
        """Wait for a turn in which to go on."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def is_ours() -> None:
            if not come.done():  # or cancelled
                come.set_result(None)

        self.call(is_ours)
        if not come.done():
            await come

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._scheduled = False
        self._done = 0
        if self._waiting:
            self._schedule()
        while self._waiting and self._done < PER_TURN:
            self._done += 1
            self._waiting.popleft()()
