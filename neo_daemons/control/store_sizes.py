"""The sizes of data directories on disk, measured in a thread, within bounds, and only while somebody asks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping

from neo_daemons.supervision import faults

FRESH_S = 60.0
"""A measurement is kept for this long."""
FIRST_S = 1.0
"""Who asks first waits so long for an answer; small directories are measured by then."""
MAX_ENTRIES = 100_000
"""The size of a directory with more entries is unknown."""
MAX_S = 5.0
"""Directories that are not measured within this, all together, keep the size that was known before."""
BLOCK_BYTES = 512
"""The unit of st_blocks."""


class StoreSizes:
    """What the data directories of daemons occupy, as of the latest measurement."""

    def __init__(self) -> None:
        self._sizes: dict[str, int | None] = {}
        """In the order in which they were measured."""
        self._measured_at = float("-inf")
        self._measuring: asyncio.Task[None] | None = None

    def size(self, name: str) -> int | None:
        """Return what the directory of this daemon occupies, in bytes; None if that is not known."""
        return self._sizes.get(name)

    async def bring_up_to_date(self, directories: Mapping[str, str | None]) -> None:
        """Begin to measure unless that was done within `FRESH_S`. Waits for the very first measurement, but no longer
        than `FIRST_S`.

        Args:
            directories: daemon → data directory.
        """
        order = {name: number for number, name in enumerate(self._sizes)}
        names = sorted(directories, key=lambda name: order.get(name, -1))  # the oldest measurement first
        wanted = {name: path for name in names if (path := directories[name]) is not None}
        is_first = self._measuring is None
        is_under_way = self._measuring is not None and not self._measuring.done()
        if not is_under_way and time.monotonic() - self._measured_at >= FRESH_S:
            measuring = asyncio.get_running_loop().create_task(self._measure(wanted))
            self._measuring = faults.reported(measuring, "measuring data directories")
        if is_first and self._measuring is not None and wanted:
            await asyncio.wait([self._measuring], timeout=FIRST_S)

    async def _measure(self, directories: Mapping[str, str]) -> None:
        cancelled = threading.Event()
        try:
            found = await asyncio.to_thread(measure, directories, cancelled, MAX_S)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        self._measured_at = time.monotonic()
        kept = {name: size for name, size in self._sizes.items() if name in directories and name not in found}
        self._sizes = kept | found


def measure(directories: Mapping[str, str], cancelled: threading.Event, limit_s: float) -> dict[str, int | None]:
    """Measure directories.

    Returns:
        Daemon → bytes on disk, or None if its directory is too large or cannot be read; without those for which there
        was no time.
    """
    deadline = time.monotonic() + limit_s
    found: dict[str, int | None] = {}
    for name, path in directories.items():
        try:
            found[name] = _measure(path, cancelled, deadline)
        except TimeoutError:
            break
        except OSError:
            found[name] = None
    return found


def _measure(path: str, cancelled: threading.Event, deadline: float) -> int | None:
    total, entries, directories = 0, 0, [path]
    while directories:
        with contextlib.suppress(FileNotFoundError), os.scandir(directories.pop()) as found:
            for entry in found:
                entries += 1
                if entries > MAX_ENTRIES:
                    return None
                if cancelled.is_set() or time.monotonic() > deadline:
                    raise TimeoutError
                with contextlib.suppress(FileNotFoundError):  # a database deletes files while it works
                    total += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
    return total
