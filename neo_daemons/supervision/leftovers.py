"""Stop the processes that an earlier supervisor left of daemons that are no longer configured to run.

A leftover may hold ports or directories that our daemons need, so none of them is started or adopted before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from neo_daemons.definitions import is_name
from neo_daemons.status import EventName

from . import faults
from .context import Context
from .slot import Slot

Survivors = dict[str, list[int]]
"""Daemon → the pids of its running processes."""


class Leftovers:
    """The leftovers of one state directory, from `begin` until they have stopped."""

    def __init__(self) -> None:
        self._ending: list[Slot] = []
        self._gone = asyncio.Event()
        self._gone.set()
        self._task: asyncio.Task[None] | None = None

    def begin(self, context: Context, slots: Collection[Slot], survivors: Survivors) -> None:
        """Begin to stop the processes of these daemons."""
        for slot in slots:
            if pids := survivors.get(slot.name):
                context.journal.add(
                    EventName.ORPHAN,
                    daemon=slot.name,
                    detail=f"no longer configured; stopping pid {', '.join(map(str, pids))}",
                )
        if slots:
            self._ending = list(slots)
            self._gone.clear()
            ending = asyncio.get_running_loop().create_task(self._end(context))
            self._task = faults.reported(ending, "stopping leftovers")

    async def _end(self, context: Context) -> None:
        ends = await asyncio.gather(*(slot.end_leftovers() for slot in self._ending), return_exceptions=True)
        for slot, end in zip(self._ending, ends, strict=True):
            if isinstance(end, Exception):
                faults.report(f"stopping {slot.name}, which is no longer configured", end)
                context.journal.add(EventName.ORPHAN_NOT_ENDED, daemon=slot.name, detail=str(end))
        self._ending = []
        self._gone.set()

    async def wait(self, progress: Callable[[str | None], None]) -> None:
        """Wait until they have stopped; `progress` is called with their names."""
        if self._ending:
            names = ", ".join(slot.name for slot in self._ending)
            progress(f"waiting until {names}, no longer configured, has stopped")
            await self._gone.wait()
        progress(None)

    def hurry(self) -> None:
        """Skip their grace periods."""
        for slot in self._ending:
            slot.tree.hurry()

    async def finished(self) -> None:
        """Wait until the work is done, even if it failed."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


def find_survivors(context: Context) -> Survivors:
    """Find all processes whose mark belongs to this state directory, in one pass over the process table."""
    survivors: Survivors = {}
    for process, mark in context.ownership.marked():
        survivors.setdefault(mark.name, []).append(process.pid)
        process.close()
    return survivors


def recorded(context: Context) -> set[str]:
    """Return the daemons that have a record."""
    return {path.stem for path in context.state_dir.daemons.glob("*.json") if is_name(path.stem)}
