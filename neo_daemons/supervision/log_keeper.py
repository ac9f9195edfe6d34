"""Keep the logs of all daemons within their limits, and note what other programs do to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from neo_daemons.status import EventName

from . import faults
from .logs import LOST
from .slot import Slot

LOOK_MIN_S, LOOK_MAX_S = 0.05, 1.0
"""Limits of the time between two checks of the logs, which depends on how fast they grow."""
NOTED_AGAIN_S = 3600.0
"""Minimum time between two journal entries about a log that is repeatedly emptied."""


class LogKeeper:
    """Maintain the logs of daemons.

    Args:
        slots: returns the slots of all current daemons.
    """

    def __init__(self, slots: Callable[[], Iterable[Slot]]) -> None:
        self.warning: str | None = None
        """What failed in the last round of checks."""
        self._slots = slots
        self._ends: dict[str, int] = {}
        self._cuts: dict[str, int] = {}
        self._noted: dict[str, float] = {}
        self._lost: set[str] = set()
        self._reported: set[tuple[str, tuple[str, str, int]]] = set()

    async def keep(self, each_time: Callable[[], None]) -> None:
        """Check the logs for ever, more often the faster they grow. Call `each_time` at each check."""
        interval_s = LOOK_MIN_S
        while True:
            await asyncio.sleep(interval_s)
            each_time()
            soonest_s = LOOK_MAX_S
            warning: str | None = None
            for slot in self._slots():
                try:
                    soonest_s = min(soonest_s, self._look(slot, interval_s))
                except OSError as error:
                    warning = f"cannot rotate {slot.log.path}: {error.strerror}"
                except Exception as error:  # one daemon's log must not stop the maintenance of the others
                    if (seen := (slot.name, faults.kind(error))) not in self._reported:  # not at each check
                        self._reported.add(seen)
                        faults.report(f"maintaining {slot.log.path}", error)
            self.warning = warning
            interval_s = max(soonest_s, LOOK_MIN_S)

    def _look(self, slot: Slot, interval_s: float) -> float:
        """Rotate the log if needed. Returns the seconds until it may have outgrown its limit."""
        name, log = slot.name, slot.log
        before = self._cuts.get(name, 0)
        end = log.end
        if log.cuts != before:
            self._cuts[name] = log.cuts
            if log.cuts > before and not log.lost and time.monotonic() > self._noted.get(name, 0.0):
                self._noted[name] = time.monotonic() + NOTED_AGAIN_S
                slot.note(EventName.LOG_TRUNCATED, f"{log.path} was emptied or replaced by another program; {_SELF}")
        if log.lost and name not in self._lost:
            self._lost.add(name)
            slot.note(EventName.LOG_DELETED, f"{log.path} {LOST}; restart the daemon to get a new log")
        elif not log.lost:
            self._lost.discard(name)
        if log.rotate() and log.method == "copy-truncate":
            slot.note(EventName.LOG_ROTATED, "copy-truncate: not lossless")
        growth = (end - self._ends.get(name, end)) / interval_s
        self._ends[name] = end
        return (log.limits.max_bytes - log.size) / growth if growth > 0 else LOOK_MAX_S


_SELF = "a daemon does so itself if it opens /dev/stdout or /dev/stderr for writing instead of appending"
