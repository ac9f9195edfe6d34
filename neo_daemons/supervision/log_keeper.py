"""Keep the logs of all daemons within their limits, and note what other programs do to them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from neo_daemons.status import EventName

from . import faults
from .logs import LOST, DaemonLog
from .platform import FileChanges, Platform
from .slot import Slot

LOOK_MIN_S, LOOK_MAX_S = 0.005, 1.0
"""Limits of the time between two checks of a log that grows, which depends on how fast it does."""
AWOKEN_S = 0.05
"""Time until the first check of a log that is new or was quiet: until then nothing is known about its growth."""
QUIET_S = 60.0
"""Time between two checks of a quiet log whose next change the system reports. It does not report all: what another
machine does to a shared file, for example."""
SLICE = 8
"""Logs that are checked before other work gets a turn: a millisecond."""
NOTED_AGAIN_S = 3600.0
"""Minimum time between two journal entries about a log that is repeatedly emptied."""


class _Kept:
    """What is known about one log. Times are seconds of the monotonic clock."""

    def __init__(self, log: DaemonLog, now: float) -> None:
        self.end = log.end
        """The position of its end at the last check."""
        self.checked_at = now
        self.due_at = now + AWOKEN_S
        """When it is checked next."""
        self.cuts = 0
        self.noted_at = -NOTED_AGAIN_S
        self.lost = False
        self._limits, self._inode = log.limits, log.inode

    def is_outdated(self, log: DaemonLog) -> bool:
        """Whether its limits, or the file that the daemon writes to, have changed since the last check."""
        return log.limits is not self._limits or log.inode != self._inode

    def checked(self, log: DaemonLog, end: int) -> None:
        """Note that it was checked."""
        self.end = end
        self._limits, self._inode = log.limits, log.inode


class LogKeeper:
    """Maintain the logs of daemons.

    Args:
        platform: reports changes of logs.
        slots: returns the slots of all current daemons.
    """

    def __init__(self, platform: Platform, slots: Callable[[], Iterable[Slot]]) -> None:
        self.warning: str | None = None
        """What failed in the last round of checks."""
        self._platform = platform
        self._slots = slots
        self._kept: dict[str, _Kept] = {}
        self._soon: dict[str, Slot] = {}
        """The logs that do not rest."""
        self._called: set[str] = set()
        self._all_due_at = 0.0
        self._warnings: dict[str, str] = {}
        self._changes: FileChanges | None = None
        self._woken = asyncio.Event()
        self._reported: set[tuple[str, tuple[str, str, int]]] = set()

    async def keep(self) -> None:
        """Check the logs for ever, each the more often the faster it grows."""
        self._changes = self._platform.file_changes()
        try:
            while True:
                await self._pause(await self._check_due())
        finally:
            if self._changes is not None:
                self._changes.close()
                self._changes = None

    def attend(self, name: str) -> None:
        """Check the log of a daemon soon: a run has begun, or its limits have changed."""
        self._called.add(name)
        self._woken.set()

    def _wake(self, slot: Slot) -> None:
        kept = self._kept.get(slot.name)
        if kept is not None:
            kept.checked_at = time.monotonic()
            kept.due_at = min(kept.due_at, kept.checked_at + AWOKEN_S)
            self._soon[slot.name] = slot

    async def _pause(self, seconds: float) -> None:
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
                await asyncio.sleep(AWOKEN_S)  # once for all that are woken meanwhile

    async def _check_due(self) -> float:
        """Check the logs that are due, with other work in between. Returns the seconds until the next one is."""
        now = time.monotonic()
        if self._called:
            for slot in self._slots():
                if slot.name in self._called:
                    self._kept.setdefault(slot.name, _Kept(slot.log, now))
                    self._wake(slot)
            self._called.clear()
        if now >= self._all_due_at:
            self._all_due_at = now + QUIET_S
            slots = list(self._slots())
            if len(self._kept) > len(slots):
                for name in self._kept.keys() - {slot.name for slot in slots}:
                    del self._kept[name]
                    self._soon.pop(name, None)
        else:
            slots = list(self._soon.values())
        checked = 0
        for slot in slots:
            kept = self._kept.get(slot.name)
            if kept is None:
                self._kept[slot.name] = _Kept(slot.log, now)
                self._soon[slot.name] = slot
            elif kept.due_at <= now or kept.is_outdated(slot.log):
                self._check(slot, kept)
                checked += 1
                if checked % SLICE == 0:
                    await asyncio.sleep(0)
        self.warning = next(iter(self._warnings.values()), None)
        next_at = min((self._kept[name].due_at for name in self._soon), default=self._all_due_at)
        wait_s = min(next_at, self._all_due_at) - time.monotonic()
        return 0.0 if self._called else max(wait_s, LOOK_MIN_S)

    def _check(self, slot: Slot, kept: _Kept) -> None:
        self._warnings.pop(slot.name, None)
        try:
            growth = self._look(slot, kept)
        except OSError as error:
            self._warnings[slot.name] = f"cannot rotate {slot.log.path}: {error.strerror}"
            growth = None
        except Exception as error:  # one daemon's log must not stop the maintenance of the others
            growth = None
            if (seen := (slot.name, faults.kind(error))) not in self._reported:  # not at each check
                self._reported.add(seen)
                faults.report(f"maintaining {slot.log.path}", error)
        now = kept.checked_at = time.monotonic()
        kept.due_at = now + LOOK_MAX_S
        self._soon[slot.name] = slot
        if growth == 0.0:
            self._rest(slot, kept)
        elif growth is not None:
            outgrown_s = (slot.log.limits.max_bytes - slot.log.size) / growth
            kept.due_at = now + min(max(outgrown_s, LOOK_MIN_S), LOOK_MAX_S)

    def _look(self, slot: Slot, kept: _Kept) -> float:
        """Rotate the log if needed. Returns its growth in bytes per second."""
        log = slot.log
        end = log.end
        if log.cuts != kept.cuts:
            if log.cuts > kept.cuts and not log.lost and time.monotonic() > kept.noted_at + NOTED_AGAIN_S:
                kept.noted_at = time.monotonic()
                slot.note(EventName.LOG_TRUNCATED, f"{log.path} was emptied or replaced by another program; {_SELF}")
            kept.cuts = log.cuts
        if log.lost and not kept.lost:
            slot.note(EventName.LOG_DELETED, f"{log.path} {LOST}; restart the daemon to get a new log")
        kept.lost = log.lost
        if log.rotate() and log.method == "copy-truncate":
            slot.note(EventName.LOG_ROTATED, "copy-truncate: not lossless")
        growth = (end - kept.end) / max(time.monotonic() - kept.checked_at, LOOK_MIN_S)
        kept.checked(log, end)
        return growth

    def _rest(self, slot: Slot, kept: _Kept) -> None:
        """Leave a log alone that does not grow, until the system reports a change."""

        def wake() -> None:
            self._wake(slot)
            self._woken.set()

        unused = slot.log.inode is None and not slot.log.path.exists()
        reported = self._changes is not None and self._changes.report_next(slot.log.path, wake)
        # It may have changed just before the system began to watch it.
        if unused or (reported and slot.log.end == kept.end):
            kept.due_at = time.monotonic() + QUIET_S
            del self._soon[slot.name]


_SELF = "a daemon does so itself if it opens /dev/stdout or /dev/stderr for writing instead of appending"
