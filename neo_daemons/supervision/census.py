"""Look at the process table for all who ask at the same time.

One look answers everyone who asked before it began. A question that comes during a look is answered by the next one,
because this one may already have passed over the process in question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from .platform import Mark, Platform, Process
from .turns import Turns

SLICE = 100
"""Processes that are looked at before other work gets a turn: about a millisecond."""
ROUNDS = 3
"""A look lists the processes again for those that were created meanwhile, at most this often. A chain that forks faster
than that is found by the lock that its processes hold."""

Marks = Mapping[int, Mark]
"""Processes that carry a mark: pid → mark."""


class Census:
    """The marks of running processes, except the known main processes of daemons.

    Args:
        turns: spreads the answers to many who have asked.
    """

    def __init__(self, platform: Platform, turns: Turns) -> None:
        self._platform = platform
        self._turns = turns
        self._known: dict[int, Process] = {}
        self._everywhere = _SharedLook(self._look_everywhere)
        self._among_orphans = _SharedLook(self._look_among_orphans)
        self._has_looked = False
        """Whether somebody has looked among orphans in this turn of the loop."""

    def know(self, process: Process) -> None:
        """Pass over this running main process of a daemon: it is not a leftover."""
        self._known[process.pid] = process

    def forget(self, process: Process) -> None:
        """Note that a main process has exited, or is no longer watched."""
        if self._known.get(process.pid) is process:
            del self._known[process.pid]

    async def everywhere(self) -> Marks:
        """Return the marks of all processes of this machine.

        Raises:
            OSError: the process table cannot be read.
        """
        marks = await self._everywhere.next()
        await self._turns.wait()
        return marks

    async def among_orphans(self) -> Marks:
        """Return the marks of what the processes that we spawned have left behind. This takes no look at the whole
        process table if the system re-parents orphans to us.

        Raises:
            OSError: the process table cannot be read.
        """
        if not self._has_looked:  # the first who asks in a turn of the loop need not wait for others
            orphans = self._platform.orphans()
            if orphans is not None:
                self._has_looked = True
                asyncio.get_running_loop().call_soon(self._next_turn)
                return dict(self._marked(orphans))
        marks = await self._among_orphans.next()
        await self._turns.wait()
        return marks

    def _next_turn(self) -> None:
        self._has_looked = False

    def at_once(self, *, among_orphans: bool) -> Marks:
        """Look alone and at once, among orphans only if that is possible.

        Raises:
            OSError: the process table cannot be read.
        """
        orphans = self._platform.orphans() if among_orphans else None
        return dict(self._marked(self._platform.pids() if orphans is None else orphans))

    async def _look_everywhere(self) -> Marks:
        found: dict[int, Mark] = {}
        seen: set[int] = set()
        for _ in range(ROUNDS):
            newest = self._platform.newest_pid()
            pids = [pid for pid in self._platform.pids() if pid not in seen and pid not in self._known]
            if not pids:
                break
            seen.update(pids)
            for start in range(0, len(pids), SLICE):
                found.update(self._marked(pids[start : start + SLICE]))
                await _give_way()
            if newest is not None and self._platform.newest_pid() == newest:
                break  # none was created
        return found

    async def _look_among_orphans(self) -> Marks:
        orphans = self._platform.orphans()
        return await self._everywhere.next() if orphans is None else dict(self._marked(orphans))

    def _marked(self, pids: Iterable[int]) -> Iterable[tuple[int, Mark]]:
        for pid in pids:
            if pid not in self._known and (mark := self._platform.mark_of(pid)) is not None:
                yield pid, mark


async def _give_way() -> None:
    """Let other work run."""
    await asyncio.sleep(0)


class _SharedLook:
    """A look that all share who ask for it before it begins."""

    def __init__(self, look: Callable[[], Coroutine[Any, Any, Marks]]) -> None:
        self._look = look
        self._asking: list[asyncio.Future[Marks]] = []
        """Who asks for the next look."""
        self._looking: asyncio.Task[None] | None = None

    async def next(self) -> Marks:
        """Return what the next look finds."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Marks] = loop.create_future()
        self._asking.append(answer)
        if self._looking is None:
            self._looking = loop.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        """Look until nobody asks any more; one look at a time, so that more can share the next one."""
        asking: list[asyncio.Future[Marks]] = []
        try:
            while self._asking:
                asking, self._asking = self._asking, []
                try:
                    found = await self._look()
                except Exception as error:
                    for answer in asking:
                        if not answer.done():  # or cancelled
                            answer.set_exception(error)
                else:
                    for answer in asking:
                        if not answer.done():
                            answer.set_result(found)
        finally:
            self._looking = None
            for answer in (*asking, *self._asking):  # if this was cancelled, with its loop
                answer.cancel()
