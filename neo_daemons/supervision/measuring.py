"""Measure what many daemons use without holding up the event loop, and no more often than anyone needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from . import faults
from .daemon import SupervisedDaemon
from .meter import OVERDUE_S, SPAN_S
from .platform import Platform
from .run import Run

SLICE = 100
"""How many daemons are measured at a time while somebody waits: for some milliseconds. Other work in between may take
as long, while many daemons start."""
SMALL_SLICE = 10
"""The same while nobody waits."""
PAUSE_S = 0.001
"""After each small slice, so that these hold up nobody."""


class Measurements:
    """The measurements of the daemons of a supervisor, for all who ask.

    Who asks gets the latest ones, and waits only for those that are overdue. After a question about all daemons, those
    that are at least `SPAN_S` old are made anew, for the next question. While nobody asks, nothing is measured.

    Args:
        daemons: returns all daemons.
    """

    def __init__(self, platform: Platform, daemons: Callable[[], Iterable[SupervisedDaemon]]) -> None:
        self._platform = platform
        self._daemons = daemons
        self._renewing: asyncio.Task[None] | None = None

    async def bring_up_to_date(self, *daemons: SupervisedDaemon) -> None:
        """Measure those of these daemons, or of all, whose measurement is overdue, with other work in between."""
        await self._measure(daemons or self._daemons(), OVERDUE_S, SLICE, pause_s=0.0)
        if not daemons and (self._renewing is None or self._renewing.done()):
            renewing = asyncio.get_running_loop().create_task(self._renew())
            self._renewing = faults.reported(renewing, "measuring what daemons use")

    def at_once(self, *daemons: SupervisedDaemon) -> None:
        """Do all of `bring_up_to_date` at once, and no more."""
        self._take(_older(daemons or self._daemons(), OVERDUE_S))

    async def _renew(self) -> None:
        await asyncio.sleep(PAUSE_S)  # the answer comes first
        await self._measure(self._daemons(), SPAN_S, SMALL_SLICE, pause_s=PAUSE_S)

    async def _measure(self, daemons: Iterable[SupervisedDaemon], age_s: float, count: int, *, pause_s: float) -> None:
        runs = _older(daemons, age_s)
        for start in range(0, len(runs), count):
            # Another client may have had some of them measured between two slices, and some may have ended.
            self._take([run for run in runs[start : start + count] if run.meter.age_s() >= SPAN_S])
            await asyncio.sleep(pause_s)

    def _take(self, runs: list[Run]) -> None:
        if runs:
            now = time.monotonic()
            found = self._platform.usage([run.process.pid for run in runs])
            for run in runs:
                run.meter.take(found.get(run.process.pid), age_s=run.age_s, now=now)


def _older(daemons: Iterable[SupervisedDaemon], age_s: float) -> list[Run]:
    return [run for daemon in daemons if (run := daemon.run) is not None and run.meter.age_s() >= age_s]
