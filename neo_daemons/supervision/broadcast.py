"""Notify any number of waiters of a change, within one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Broadcast:
    """`notify` wakes all current waiters. Each waiter reads the changed state itself, so that none can delay or flood
    another."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[bool], None] = {}
        """In the order in which they came."""

    def notify(self) -> None:
        """Wake all waiters."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            _wake(waiter, True)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the next `notify`. Returns False if `timeout_s` passed first."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters[waiter] = None
        timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, waiter, False)
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()


def _wake(waiter: asyncio.Future[bool], notified: bool) -> None:
    if not waiter.done():  # or cancelled
        waiter.set_result(notified)


class Changes(Broadcast):
    """A broadcast that also tells what has changed, so that nobody has to look at everything."""

    def __init__(self) -> None:
        super().__init__()
        self._followers: list[dict[str, None]] = []
        self.listeners: list[Callable[[str], None]] = []
        """Called at once with the name of each daemon that changes."""

    def names(self) -> dict[str, None]:
        """Return a new collection that gets the name of each daemon that changes from now on, in order. The caller
        empties it."""
        names: dict[str, None] = {}
        self._followers.append(names)
        return names

    def changed(self, name: str) -> None:
        """Note that a daemon has changed, and wake all waiters."""
        for names in self._followers:
            names[name] = None
        for listener in self.listeners:
            listener(name)
        self.notify()
