"""Notify any number of waiters of a change, within one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Broadcast:
    """`notify` wakes all current waiters. Each waiter reads the changed state itself, so that none can delay or flood
    another."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Wake all waiters."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the next `notify`. Returns False if `timeout_s` passed first."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait([self._waiter], timeout=timeout_s)
        return bool(done)


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
