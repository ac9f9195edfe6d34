"""Write a daemon's PID file: the intent before the spawn, the pid after it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from neo_daemons import records
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, Identity

from .ownership import Ownership


class PidFile:
    """The record of one daemon, as its supervisor keeps it.

    The daemon's own processes inherit and hold its lock (``NAME.lock``), so the kernel can report whether any of them
    runs, whatever happened to the supervisor.
    """

    def __init__(self, path: Path, ownership: Ownership) -> None:
        self.path = path
        self._ownership = ownership
        self._token: str | None = None
        """Token of the record that we read or wrote last."""
        self._written: tuple[int, int, int] | None = None
        """Device, inode and modification time of the file that we wrote last, unless we have removed it."""
        self.record: DaemonRecord | None = None

    def load(self) -> str | None:
        """Read the record that an earlier supervisor left. Move a damaged one aside and return the error. Remove a
        copy, which was written in another directory, and an empty file: a power cut leaves that.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            self.record = records.read(self.path, DaemonRecord)
        except DamagedRecord as error:
            self.record = None
            if not self.path.stat().st_size:
                self.path.unlink()
                return None
            return records.move_aside(error)
        self._token = self.record.token if self.record is not None else None
        if self.record is not None and not self._ownership.counts(self.record):
            self.clear()
        return None

    def intend(self, record: DaemonRecord) -> None:
        """Record that a process with this token is about to be spawned.

        Raises:
            OSError: it could not be written, so nothing may be spawned.
        """
        self._write(record)
        self.record = record
        self._token = record.token

    def establish(self, pid: int, identity: Identity) -> DaemonRecord:
        """Record the spawned process.

        Raises:
            OSError: it could not be written. The token in the intent still identifies the process by its mark.
        """
        assert self.record is not None
        self.record = msgspec.structs.replace(self.record, pid=pid, identity=identity)
        self._write(self.record)
        return self.record

    def move(self) -> None:
        """Write the record again, in the directory that replaced a deleted one.

        Raises:
            OSError: it could not be written.
        """
        if self.record is not None:
            self.record = msgspec.structs.replace(self.record, directory=self._ownership.directory)
            self._write(self.record)

    def _write(self, record: DaemonRecord) -> None:
        # Lazily, because no process that it names outlives a power cut.
        self._written = _status(write_struct(self.path, record, lazy=self._written is not None))

    def clear(self) -> None:
        """Remove the record when nothing of the daemon runs. Keep a record of another supervisor, which may now own
        the state directory."""
        self.record = None
        if self._ownership.is_here() and not self._is_anothers():
            self.path.unlink(missing_ok=True)
            self._written = None

    def _is_anothers(self) -> bool:
        """Whether another supervisor has taken over the directory and written its own record."""
        if self._token is None:
            return False
        try:
            if _status(os.stat(self.path)) == self._written:
                return False
            found = records.read(self.path, DaemonRecord)
        except (DamagedRecord, OSError):
            return False
        return found is not None and found.token != self._token


def _status(file: os.stat_result) -> tuple[int, int, int]:
    return file.st_dev, file.st_ino, file.st_mtime_ns
