"""Restarts the daemons of a `serve` when the files that their definitions watch have changed.

watchfiles reports that something has changed below a directory; the digests of the files decide whether a daemon runs
old code. It is imported when a daemon watches something.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .definitions import Definition
from .status import Cause, EventName
from .supervision import faults
from .supervision.daemon import SupervisedDaemon
from .supervision.jobs import Job
from .supervision.machine import ALIVE, Event, State
from .supervision.supervisor import Supervisor
from .watched import CannotWatch, Pattern, changed, digests, in_words, is_left_out

QUIET_MS, LONGEST_MS = 100, 1000
"""A restart follows when nothing has changed for this long: an editor or git writes several files. It follows after
`LONGEST_MS` in any case."""
RETRY_S = 0.5
"""How often it is tried to restart a daemon that must not be restarted yet."""
PLACES_S = 1.0
"""How often it is checked whether a directory is another one: of one that is missing, the system tells nothing."""
WAITING = frozenset({State.BACKOFF, State.PARKED, State.UNAVAILABLE})
"""States of a daemon that failed, perhaps because of the old files."""
DOWN = frozenset({State.STOPPED, State.HELD, State.EXTERNAL})


class SourceWatch:
    """Watches the files of a supervisor's daemons.

    Args:
        root: the directory that patterns are relative to.
        remedy: returns the command that installs watchfiles.
    """

    def __init__(self, supervisor: Supervisor, root: Path, remedy: Callable[[], str]) -> None:
        self._supervisor = supervisor
        self._root = root
        self._remedy = remedy
        self._attending = Job(self._failed)
        self._deep = Job(self._failed)
        """Watches directories with all that is below them."""
        self._flat = Job(self._failed)
        """Watches directories without what is below them."""
        self._places: list[tuple[int, int] | None] | None = None
        """Which directories are watched; None: none, or not reliably."""
        self._woken = asyncio.Event()
        """Something has changed."""
        self._noted: dict[str, str] = {}
        """Daemon → what was last said of it in the journal, as long as that lasts."""

    def begin(self, definitions: tuple[Definition, ...]) -> None:
        """Begin to watch what these definitions name, and nothing else."""
        self._supervisor.remark = None
        self._noted.clear()
        self._cancel()
        watching = {definition.name: definition.files for definition in definitions if definition.files}
        if not watching:
            return
        try:
            import watchfiles
        except ImportError:
            watching = {definition.name: definition.watch for definition in definitions if definition.watch}
            if not watching:
                return  # inputs are compared at each start and reload in any case
            why = "watchfiles is not installed, so serve does not restart daemons when their files change"
            self._give_up(watching, f"{why}; run: {self._remedy()}")
            return
        try:
            patterns = [Pattern(text, self._root) for texts in watching.values() for text in texts]
        except CannotWatch as error:  # from a definition that no file states
            self._give_up(watching, str(error))
            return
        self._attending.begin(self._attend(watchfiles.awatch, watching, patterns))

    async def stop(self) -> None:
        """Stop watching."""
        for job in (self._attending, self._deep, self._flat):
            await job.stop()

    def _cancel(self) -> None:
        for job in (self._attending, self._deep, self._flat):
            job.cancel()

    def _give_up(self, watching: Iterable[str], why: str) -> None:
        self._supervisor.remark = why
        for name in watching:
            self._note(name, EventName.FILES_NOT_WATCHED, why)

    def _failed(self, error: Exception) -> None:
        """Report that the system does not let us watch; no inotify watches may be left."""
        self._cancel()
        faults.report("watching files", error)
        watching = [daemon.name for daemon in self._supervisor.daemons.values() if daemon.definition.files]
        self._give_up(watching, f"files are no longer watched, so changes restart nothing: {faults.describe(error)}")

    async def _attend(self, awatch: Any, watching: dict[str, tuple[str, ...]], patterns: list[Pattern]) -> None:
        """Watch, and restart the daemons that run old code as soon as each of them may be restarted."""
        present: dict[str, dict[str, str]] = {}
        self._places = None
        while True:
            places = [_identity(pattern.base) for pattern in patterns]
            if places != self._places:
                self._places = places
                self._deep.begin(self._watch(awatch, [pattern for pattern in patterns if pattern.is_deep], deep=True))
                self._flat.begin(
                    self._watch(awatch, [pattern for pattern in patterns if not pattern.is_deep], deep=False)
                )
                await asyncio.sleep(0)  # these have run once, so they miss nothing that happens from here on
                self._woken.set()
            if self._woken.is_set():
                self._woken.clear()
                present = await self._read(watching)
            present = {name: files for name, files in present.items() if not self._is_settled(name, files)}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if present else PLACES_S):
                    await self._woken.wait()

    async def _watch(self, awatch: Any, patterns: list[Pattern], *, deep: bool) -> None:
        """Wake `_attend` when files of these patterns may have changed."""
        directories = sorted({str(pattern.base) for pattern in patterns if pattern.base.is_dir()})
        if not directories:
            return

        def concerns_us(change: object, path: str) -> bool:
            return path in directories or any(
                pattern.matches(path) or (deep and _may_hold(pattern, path)) for pattern in patterns
            )

        try:
            async for changes in awatch(
                *directories,
                watch_filter=concerns_us,
                step=QUIET_MS,
                debounce=LONGEST_MS,
                recursive=deep,
                ignore_permission_denied=True,
            ):
                if any(path in directories for _, path in changes):
                    self._places = None  # one that was removed is not watched any more, even if it is there again
                self._woken.set()
        except FileNotFoundError:  # it was removed just now
            self._places = None

    async def _read(self, watching: dict[str, tuple[str, ...]]) -> dict[str, dict[str, str]]:
        """Return the files of each daemon, except of those whose files cannot be watched."""
        present: dict[str, dict[str, str]] = {}
        for name, patterns in watching.items():
            try:
                present[name] = await asyncio.to_thread(digests, patterns, self._root)
            except CannotWatch as error:
                self._note(name, EventName.FILES_NOT_WATCHED, str(error))
        return present

    def _is_settled(self, name: str, files: dict[str, str]) -> bool:
        """Restart a daemon if it runs with other files than these and may be restarted. Return whether nothing is left
        to do for it."""
        supervisor = self._supervisor
        daemon = supervisor.daemons.get(name)
        if daemon is None or supervisor.stopping or daemon.state in DOWN:
            return True
        before = daemon.launch.watched if daemon.launch is not None else {}
        differing = changed(before, files)
        if not differing:
            self._noted.pop(name, None)
            return True
        running = ALIVE if not daemon.definition.oneshot else {State.DONE}  # work is not interrupted
        if name in supervisor.fleet.changing or daemon.state not in running | WAITING:
            return False
        words = in_words(differing)
        if not daemon.watcher.may_recycle():
            self._note(name, EventName.FILES_CHANGED, f"{words}; not restarted while it is on hold or tests use it")
            return False
        self._noted.pop(name, None)
        daemon.slot.note(EventName.FILES_CHANGED, words)
        _restart(daemon, words)
        return True

    def _note(self, name: str, event: EventName, detail: str) -> None:
        daemon = self._supervisor.daemons.get(name)
        if daemon is not None and self._noted.get(name) != detail:
            self._noted[name] = detail
            daemon.slot.note(event, detail)


def _restart(daemon: SupervisedDaemon, why: str) -> None:
    if daemon.state in ALIVE | {State.DONE}:
        daemon.condemn(Cause.RECYCLED, f"recycled: {why}")
    else:
        daemon.order(Event.START, f"tried again: {why}", Cause.RECYCLED)


def _identity(directory: Path) -> tuple[int, int] | None:
    """Return what tells a directory from another one at its path; None if it is missing."""
    with contextlib.suppress(OSError):
        found = os.stat(directory)
        return found.st_dev, found.st_ino
    return None


def _may_hold(pattern: Pattern, path: str) -> bool:
    """Return whether a path below the base of a pattern may be a directory that was moved with its files."""
    below = Path(path)
    if not below.is_relative_to(pattern.base) or (below.exists() and not below.is_dir()):
        return False
    place = pattern.base
    for name in below.relative_to(pattern.base).parts:
        if is_left_out(str(place), name):
            return False
        place /= name
    return True
