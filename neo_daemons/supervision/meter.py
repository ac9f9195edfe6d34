"""Measure how much CPU and memory a daemon uses, with the same result for all clients."""

from __future__ import annotations

import math
import time

from msgspec import Struct

from .platform import Usage

SPAN_S = 1.0
"""The shortest time over which usage is measured. Clients that ask sooner get the latest measurement, so that a second
watcher does not shorten the span of the first: over milliseconds the kernel's clock ticks yield 0 % or 200 %."""
OVERDUE_S = 2.0
"""No client gets an older measurement."""


class Reading(Struct, frozen=True):
    """What the process tree of one run uses."""

    cpu_percent: float
    """In percent of one CPU."""
    rss_bytes: int


class Meter:
    """The latest measurement of one run, for all who ask."""

    def __init__(self) -> None:
        self.measured_at = -math.inf
        """When it was last measured, successfully or not; seconds of the monotonic clock."""
        self.cpu_s = 0.0
        """CPU time that the processes have used, as far as it was measured. It never falls, though a process takes its
        own along when it exits."""
        self._cpu = CpuMeter()
        self._used_s = 0.0
        self._reading: Reading | None = None

    def take(self, usage: Usage | None, *, age_s: float, now: float) -> None:
        """Take in a measurement.

        Args:
            usage: what the process tree has used so far; None if it could not be measured.
            age_s: time since the start of the run.
            now: the time of the measurement.
        """
        self.measured_at = now
        self._reading = None
        if usage is None:
            return
        self.cpu_s += max(usage.cpu_s - self._used_s, 0.0)
        self._used_s = usage.cpu_s
        if usage.rss_bytes:
            self._reading = Reading(self._cpu.percent(usage.cpu_s, age_s), usage.rss_bytes)
        else:  # it has just been spawned, and is measured again for the next client that asks
            self.measured_at = -math.inf

    def age_s(self) -> float:
        """Return how long ago it was last measured, successfully or not, in seconds; infinite if never."""
        return time.monotonic() - self.measured_at

    def reading(self, now: float) -> Reading | None:
        """Return the latest measurement; None if there is none, or it is overdue."""
        return self._reading if now - self.measured_at < OVERDUE_S else None


class CpuMeter:
    """Measure one run of a daemon from the CPU time that its processes have used so far."""

    def __init__(self) -> None:
        self._age_s = 0.0
        self._used_s = 0.0
        self._percent = 0.0

    def percent(self, used_s: float, age_s: float) -> float:
        """Return the usage in percent of one CPU.

        Args:
            used_s: CPU time used since the start.
            age_s: time since the start.
        """
        span_s = age_s - self._age_s
        if span_s >= SPAN_S:
            self._percent = round(100 * max(used_s - self._used_s, 0.0) / span_s, 1)
            self._age_s, self._used_s = age_s, used_s
        elif self._age_s == 0.0 and age_s > 0:
            return round(100 * used_s / age_s, 1)  # so young that there is only one measurement
        return self._percent
