"""A supervisor's claim on its state directory: the lock, the supervisor's record, and the directory itself.

The directory can be deleted, moved or replaced while it is supervised (``git clean -fdx``, ``mv``, a restored backup).
A supervisor that clients cannot find would restart daemons for ever. So it checks the directory, recreates what is
missing, and notices when it no longer owns the path.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import msgspec
from filelock import Timeout, UnixFileLock

from neo_daemons import procfs, records
from neo_daemons.files import remove_leftover_temporaries, write_struct
from neo_daemons.locks import is_held, supervisor_lock
from neo_daemons.paths import path_of
from neo_daemons.records import DamagedRecord, Directory, NewerRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir, StateDirError, StateDirLost, UnusableStateDir

CLAIM_S = 1.0
"""A supervisor that is exiting, or a process that checks the lock, may hold it for a moment."""
RECLAIM_S = 0.1
"""A process that checks the lock holds it for microseconds."""
POLL_S = 0.02


class AlreadyRunning(Exception):
    """Another supervisor holds the state directory; `record` identifies it if it can be read."""

    def __init__(self, state: StateDir, record: SupervisorRecord | None, who: str | None = None) -> None:
        self.record = record
        who = who or (f"pid {record.pid}" if record is not None else "a supervisor that is starting")
        super().__init__(
            f"{state.path} is already supervised by {who}; use that supervisor (status, stop, reload) "
            f"or replace it with `{state.command('serve --takeover')}`"
        )


class Claim:
    """The claim on one state directory, held from `take` to `release`."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self._lock: UnixFileLock | None = None
        self._descriptor = -1
        """The open directory."""
        self._directory: Directory | None = None
        self._lock_file: os.stat_result | None = None
        self._record: SupervisorRecord | None = None
        self._record_file: os.stat_result | None = None
        self.remade = False
        """Whether the directory, or one in it, had to be recreated, so that its contents are gone. The caller resets
        this after restoring them."""

    def take(self) -> None:
        """Take the state directory, creating it if it is missing.

        Raises:
            AlreadyRunning: another supervisor holds it. Nothing was written.
            StateDirError: the directory cannot be used, or a later version wrote what is in it.
        """
        try:
            self._take(CLAIM_S)
        except Timeout:
            record = None
            with contextlib.suppress(DamagedRecord, OSError):
                record = records.read(self.state.record, SupervisorRecord)
            if record is not None and records.origin(record, self.state.path) is not None:
                record = None  # a copy: it names another directory's supervisor
            raise AlreadyRunning(self.state, record) from None
        try:
            self._refuse_newer()
        except StateDirError:
            self.release()
            raise

    def _refuse_newer(self) -> None:
        """Refuse the directory of a later version. To set its records aside would lose what it remembers, such as
        holds, and would restart its daemons.

        Raises:
            UnusableStateDir: it has such records.
        """
        state = self.state
        for path in (state.record, state.intentions, *sorted(state.daemons.iterdir())):
            if path.suffix in (".json", ".done"):
                try:
                    records.refuse_newer(path)
                except NewerRecord as error:
                    raise UnusableStateDir(f"{error}, or choose another --state-dir; nothing was changed") from None

    def _take(self, timeout_s: float) -> None:
        self.state.create()
        lock = supervisor_lock(self.state.lock)
        try:
            lock.acquire(timeout=timeout_s, poll_interval=POLL_S)
        except Timeout:
            raise
        except OSError as error:
            raise StateDirError(
                f"cannot lock {self.state.lock}: {error.strerror}; choose another --state-dir"
            ) from None
        try:
            lock_file = self.state.lock.stat()
            self._hold_directory()
        except OSError as error:
            lock.release()
            raise StateDirError(f"cannot use {self.state.path}: {error.strerror}; choose another --state-dir") from None
        if self._lock is not None:
            self._lock.release()  # of a file that was deleted
        self._lock, self._lock_file = lock, lock_file

    def _hold_directory(self) -> None:
        descriptor = os.open(self.state.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._directory = Directory.behind(descriptor, self.state.path)

    @property
    def directory(self) -> Directory:
        """The claimed directory."""
        assert self._directory is not None, "it has not been taken"
        return self._directory

    def announce(self, record: SupervisorRecord) -> None:
        """Write the supervisor's record, with the address of its control API.

        Raises:
            StateDirError: the record cannot be written.
        """
        for directory in (self.state.path, self.state.daemons, self.state.logs):
            remove_leftover_temporaries(directory)
        self._record = record
        try:
            self._write()
        except OSError as error:
            raise StateDirError(
                f"cannot write {self.state.record}: {error.strerror}; free some space or choose another --state-dir"
            ) from None

    def _write(self) -> None:
        assert self._record is not None
        write_struct(self.state.record, self._record)
        self._record_file = self.state.record.stat()

    def keep(self) -> None:
        """Recreate whatever is missing of the directory, the lock and the record. See `remade`.

        Raises:
            StateDirLost: we no longer own the path.
            StateDirError, OSError: it cannot be checked or recreated now; this may be possible later.
        """
        assert self._directory is not None
        self._keep_directory()
        if not self.state.is_whole():
            self.state.create()
            self.remade = True
        if not _is_at(self.state.lock, self._lock_file):
            self._retake("its lock was deleted", adopted=not self.remade)
        if self._record is not None and not _is_unchanged(self.state.record, self._record_file):
            self._write()

    def _keep_directory(self) -> None:
        path = self.state.path
        try:
            if os.path.samestat(path.stat(), os.fstat(self._descriptor)):
                return
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                raise
        if self._is_deleted():
            if not path.parent.is_dir():
                raise StateDirLost(path, "it was deleted together with its parent directory")
            self._retake("it was deleted")
        elif self._is_renumbered():
            self._hold_directory()
            self._lock_file = self.state.lock.stat()
        else:
            raise StateDirLost(path, f"it was moved{_to(self._descriptor)}")
        self.remade = True

    def _is_deleted(self) -> bool:
        try:
            # A directory of a lower layer of overlayfs keeps its link count.
            if not os.fstat(self._descriptor).st_nlink:
                return True
            return (path_of(self._descriptor) or "").endswith(procfs.DELETED)
        except OSError:  # a network file system
            return True

    def _is_renumbered(self) -> bool:
        """Whether the directory is ours under a new inode number, which some file systems assign while it is in use:
        the record there is ours, and the lock is held."""
        try:
            found = records.read(self.state.record, SupervisorRecord)
        except (DamagedRecord, OSError):
            return False
        ours = found is not None and self._record is not None and found.token == self._record.token
        return ours and is_held(self.state.lock)

    def _retake(self, why: str, *, adopted: bool = False) -> None:
        try:
            self._take(RECLAIM_S)
        except Timeout:
            taken = f"{why}, and another supervisor now owns it"
            raise StateDirLost(self.state.path, taken, adopted=adopted) from None

    def release(self) -> None:
        """Release the directory, even if it was moved."""
        if self._record is not None:
            # Only our record: another supervisor may have written a new one.
            with contextlib.suppress(OSError, msgspec.DecodeError):
                descriptor = os.open(self.state.record.name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
                with open(descriptor, "rb") as file:
                    found = msgspec.json.decode(file.read(), type=SupervisorRecord)
                if found.token == self._record.token:
                    os.unlink(self.state.record.name, dir_fd=self._descriptor)
            self._record = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_at(path: Path, file: os.stat_result | None) -> bool:
    try:
        return file is not None and os.path.samestat(path.stat(), file)
    except FileNotFoundError:
        return False


def _is_unchanged(path: Path, file: os.stat_result | None) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return file is not None and os.path.samestat(found, file) and found.st_mtime_ns == file.st_mtime_ns


def _to(descriptor: int) -> str:
    path = path_of(descriptor)
    return "" if path is None else f" to {path}"
