"""Measure how much CPU a daemon uses, with the same result for all clients."""

from __future__ import annotations

SPAN_S = 1.0
"""The shortest time over which usage is measured. Clients that ask sooner get the latest measurement, so that a second
watcher does not shorten the span of the first: over milliseconds the kernel's clock ticks yield 0 % or 200 %."""


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
