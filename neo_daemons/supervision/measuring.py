"""Measure what many daemons use without holding up the event loop, and no more often than anyone needs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from .daemon import SupervisedDaemon
from .meter import OVERDUE_S, SPAN_S
from .platform import Platform

SLICE = 250
"""How many daemons are measured at a time: for milliseconds."""


def measure(platform: Platform, daemons: Iterable[SupervisedDaemon]) -> None:
    """Do all of `measuring` at once."""
    for _ in measuring(platform, daemons):
        pass


def measuring(platform: Platform, daemons: Iterable[SupervisedDaemon]) -> Iterator[None]:
    """Measure the running daemons whose latest measurement is overdue, `SLICE` of them in each step.

    If none is overdue, there is at most one step: of those whose measurement is the oldest, and at least `SPAN_S` old.
    So clients that ask often share the work, and none of them waits for all of it.
    """
    began = time.monotonic()
    runs = [run for daemon in daemons if (run := daemon.run) is not None and began - run.meter.measured_at >= SPAN_S]
    runs.sort(key=lambda run: run.meter.measured_at)
    for start in range(0, len(runs), SLICE):
        now = time.monotonic()
        # Between two steps another client may have had some of them measured.
        due = [run for run in runs[start : start + SLICE] if now - run.meter.measured_at >= SPAN_S]
        if start and not any(now - run.meter.measured_at >= OVERDUE_S for run in due):
            return
        found = platform.usage([run.process.pid for run in due])
        for run in due:
            run.meter.take(found.get(run.process.pid), age_s=run.age_s, now=now)
        yield
