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
        marks = await self._among_orphans.next()
        await self._turns.wait()
        return marks

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
        self._next: asyncio.Task[Marks] | None = None
        self._lock = asyncio.Lock()

    async def next(self) -> Marks:
        """Return what the next look finds."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._begin())
            self._next.add_done_callback(_retrieve)
        return await asyncio.shield(self._next)

    async def _begin(self) -> Marks:
        async with self._lock:  # one look at a time, so that more can share the next one
            self._next = None
            return await self._look()


def _retrieve(task: asyncio.Task[Marks]) -> None:
    """Retrieve the error of a look whose askers were all cancelled, so that the loop does not report it."""
    if not task.cancelled():
        task.exception()
