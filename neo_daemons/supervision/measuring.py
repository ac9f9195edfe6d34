"""Measure what many daemons use without holding up the event loop, and no more often than anyone needs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from .daemon import SupervisedDaemon
from .meter import OVERDUE_S, SPAN_S
from .platform import Platform
from .run import Run

SLICE = 250
"""How many daemons are measured at a time: for some milliseconds."""
SHARE = 100
"""How many are measured at most for a client that could do with the latest measurements."""


def measure(platform: Platform, daemons: Iterable[SupervisedDaemon]) -> None:
    """Do all of `measuring` at once."""
    for _ in measuring(platform, daemons):
        pass


def measuring(platform: Platform, daemons: Iterable[SupervisedDaemon]) -> Iterator[None]:
    """Measure the running daemons whose latest measurement is overdue, `SLICE` of them in each step.

    If none is overdue, there is at most one step: `SHARE` of those whose measurement is the oldest, and at least
    `SPAN_S` old. So clients that ask often share the work, and none of them waits for all of it.
    """
    now = time.monotonic()
    due = [run for daemon in daemons if (run := daemon.run) is not None and now - run.meter.measured_at >= SPAN_S]
    overdue = [run for run in due if now - run.meter.measured_at >= OVERDUE_S]
    if not overdue and due:
        due.sort(key=lambda run: run.meter.measured_at)
        _measure(platform, due[:SHARE])
        yield
    for start in range(0, len(overdue), SLICE):
        # Between two steps another client may have had some of them measured.
        now = time.monotonic()
        left = [run for run in overdue[start : start + SLICE] if now - run.meter.measured_at >= SPAN_S]
        if left:
            _measure(platform, left)
            yield


def _measure(platform: Platform, runs: list[Run]) -> None:
    now = time.monotonic()
    found = platform.usage([run.process.pid for run in runs])
    for run in runs:
        run.meter.take(found.get(run.process.pid), age_s=run.age_s, now=now)
