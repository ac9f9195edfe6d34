"""Checks the bridge, which has no port: whether its process is running and keeps up with the log that it tails."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
import time
from pathlib import Path

from neo_daemons import processes
from neo_daemons.bridge_files import (
    DAEMON_DIR_VARIABLE,
    DATABASE_VARIABLE,
    LOG_END_QUERY,
    PID_FILES,
    POSITION_FILE,
    SCRIPTS,
    STUCK_S,
)
from neo_daemons.checks import sqlite
from neo_daemons.checks.files import is_there, read_number
from neo_daemons.checks.reasons import lacking, reason
from neo_daemons.records import Unseen

from .background import Background, background, in_thread
from .observation import Details
from .observer import TIMEOUT_S, Draft, Observer
from .record import Verification

CLOCK_S = 2.0
"""Tolerance for a start time: the kernel reports its boot time in whole seconds."""


class BridgeDetails(Details, frozen=True, kw_only=True):
    """Details of a bridge."""

    own_pid: int | None = None
    """The pid in its own PID file."""
    position: int | None = None
    """The log entry that it has reached; None if it has processed none since its start."""
    log_end: int | None = None
    behind: int | None = None
    """The number of entries between the two."""
    since_progress_s: float | None = None
    """Seconds since its position last changed, or since its start."""
    stuck_for_s: float | None = None
    """Seconds for which it has been behind without a change of position, as far as is known."""

    @property
    def summary(self) -> tuple[str, ...]:
        if not self.behind:
            return (f"at {self.position if self.position is not None else self.log_end}, the end of the log",)
        return (f"at {self.position}, {self.behind} behind the end of the log",)


class BridgeObserver(Observer[BridgeDetails]):
    """Checks the bridge, the wake daemon of neo.mjs.

    Args:
        daemon_dir: its own directory (``NEO_AI_DAEMON_DIR``).
        database: the graph database that it tails (``NEO_MEMORY_DB_PATH``).
        state_dir: the state directory of its supervisor, whose PID record contains both paths; by default, without
            the paths, the project's, as the command line finds it.
        name: the name of the daemon.
        timeout_s: the time limit of one check.
        reuse_s: for how long a healthy result may be reused; the observation contains its age.

    Raises:
        ValueError: only one of `daemon_dir` and `database` is given.
    """

    details = BridgeDetails

    def __init__(
        self,
        daemon_dir: Path | str | None = None,
        database: Path | str | None = None,
        *,
        state_dir: Path | str | None = None,
        name: str = "bridge",
        timeout_s: float = TIMEOUT_S,
        reuse_s: float = 0.0,
    ) -> None:
        if (daemon_dir is None) != (database is None):
            raise ValueError("pass both daemon_dir and database, or a state_dir that records them")
        if daemon_dir is None and state_dir is None:
            from neo_daemons.config.locate import find_state_dir

            state_dir = find_state_dir().path
        super().__init__(name, state_dir, timeout_s, reuse_s)
        self._paths = (Path(daemon_dir), Path(database)) if daemon_dir is not None and database is not None else None
        self._behind_since: tuple[int | None, float] | None = None
        """The position at which it was first seen to be behind, and when (monotonic seconds)."""
        self._reading: tuple[Background, concurrent.futures.Future[int]] | None = None
        """The reader thread's result. It outlives a check that times out, and there is never more than one."""
        self._first_end: tuple[int, int] | None = None
        """A pid, and where the log ended when that process was first seen."""

    def _place(self) -> str:
        return f"at {self._paths[0]}" if self._paths is not None else super()._place()

    async def _examine(self, draft: Draft, verification: Verification | None) -> None:
        paths = self._paths or self._recorded(draft, verification)
        if paths is None:
            return
        directory, database = paths
        pid = self._living(draft, directory)
        if pid is None:
            return
        draft.listener = pid
        draft.on_timeout = "unknown"
        gone = processes.deleted_file(pid, database.name)
        if gone is not None:
            draft.fault(
                f"its database was deleted while it runs: it reads {gone} (deleted), which nothing writes to any more"
            )
            return
        try:
            draft.doing = f"reading {database}"
            # In a thread: a database can be slow, and other checks use this loop.
            owner = background()
            if self._reading is None or self._reading[0] is not owner or self._reading[1].done():
                deadline = time.monotonic() + self.timeout_s
                self._reading = (owner, in_thread(lambda: read_end(database, deadline)))
            end = await asyncio.shield(asyncio.wrap_future(self._reading[1]))
            position = read_number(directory / POSITION_FILE)
        except sqlite3.OperationalError as error:
            draft.fault(f"{database} cannot be read now: {error}", "unknown")
            return
        except (ValueError, OverflowError, sqlite3.Error, OSError) as error:
            hidden = isinstance(error, PermissionError) or lacking(error) is not None
            draft.fault(f"its progress cannot be read: {_with_file(error)}", "unknown" if hidden else "unhealthy")
            return
        self._judge_progress(draft, directory, database, pid, position, end)

    @staticmethod
    def _recorded(draft: Draft, verification: Verification | None) -> tuple[Path, Path] | None:
        assert verification is not None
        if verification.record is None:
            draft.record_missing(verification)
            return None
        exports = verification.record.exports
        try:
            return Path(exports[DAEMON_DIR_VARIABLE]), Path(exports[DATABASE_VARIABLE])
        except KeyError as error:
            draft.fault(f"its PID record does not contain {error}; pass daemon_dir and database", "unknown")
            return None

    @staticmethod
    def _living(draft: Draft, directory: Path) -> int | None:
        """Return the process that its own PID file names; None, with a fault in `draft`, if that is not running."""
        try:
            file = next((directory / name for name in PID_FILES if is_there(directory / name)), None)
        except OSError as error:
            draft.fault(f"its own PID file cannot be checked: {_with_file(error)}", "unknown")
            return None
        if file is None:
            draft.fault(f"it is not running: {directory} contains none of {', '.join(PID_FILES)}")
            return None
        try:
            pid = read_number(file)
            if pid is None or not 1 < pid < 2**31:
                raise ValueError(f"{file} contains no pid")
            draft.details["own_pid"] = pid
            written = file.stat().st_mtime
            started = processes.started_at(pid)
            living = processes.identify(pid) is not None
        except ValueError as error:
            draft.fault(f"its own PID file is damaged, so it exits at every start: {error}")
            return None
        except (OSError, Unseen) as error:
            draft.fault(f"{file}: {reason(error)}", "unknown")
            return None
        command = processes.command(pid)
        if not living or started is None:
            draft.fault(f"it is not running: pid {pid}, named by {file}, is gone")
        # It started after the file was written, or is another program: the pid has been reused.
        elif started > written + CLOCK_S or not any(part.endswith(SCRIPTS) for part in command):
            what = " ".join(command)[:100]
            draft.fault(f"it is not running: pid {pid}, named by {file}, is another process now ({what})")
        elif processes.is_stopped(pid):
            draft.fault(f"pid {pid} is stopped by a signal")
            return pid
        else:
            return pid
        return None

    def _judge_progress(
        self, draft: Draft, directory: Path, database: Path, pid: int, position: int | None, end: int
    ) -> None:
        now, monotonic = time.time(), time.monotonic()
        started = processes.started_at(pid) or now
        stepped = max(_modified(directory / POSITION_FILE) or 0.0, started)
        # Without a position file it is where the log ended at its start, which was no later than the first check.
        if self._first_end is None or self._first_end[0] != pid:
            self._first_end = (pid, end)
        behind = max(end - (position if position is not None else self._first_end[1]), 0)
        draft.details |= {
            "position": position,
            "log_end": end,
            "behind": behind,
            "since_progress_s": max(now - stepped, 0.0),
        }
        if not behind:
            self._behind_since = None
            return
        if self._behind_since is None or self._behind_since[0] != position:
            self._behind_since = (position, monotonic)
        # It has been behind at least since the latest write, which even the first check knows.
        wrote = max(_modified(database) or 0.0, _modified(sqlite.beside(database, "-wal")) or 0.0)
        stuck_s = max(monotonic - self._behind_since[1], now - max(stepped, wrote))
        draft.details["stuck_for_s"] = stuck_s
        if stuck_s >= STUCK_S:
            draft.fault(
                f"it is running but not working: at position {position}, behind {end}, no progress for {stuck_s:.0f} s"
            )


def read_end(database: Path, deadline: float) -> int:
    """Read where the log ends, without writing a byte. Gives up at `deadline` (monotonic seconds).

    Raises:
        OSError: the database does not exist.
        sqlite3.Error, ValueError, OverflowError: it is not such a database, or cannot be read without writing.
    """
    return sqlite.read_number(database, LOG_END_QUERY, deadline, without_writing=True)


def _with_file(error: Exception) -> str:
    """Return the reason of an error, with the file that it concerns."""
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return where + reason(error)


def _modified(path: Path) -> float | None:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return None
