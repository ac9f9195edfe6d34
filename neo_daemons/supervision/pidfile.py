"""Owning a daemon's PID file: intent before the spawn, fact after it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from neo_daemons import records
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, Identity

from .ownership import Ownership


class PidFile:
    """The record of one daemon, in the hands of its supervisor.

    The lock that goes with it (``NAME.lock``) is held by the daemon's own processes: they inherit it, so the kernel
    can say whether any of them lives, whatever became of the supervisor.
    """

    def __init__(self, path: Path, ownership: Ownership) -> None:
        self.path = path
        self._ownership = ownership
        self._token: str | None = None
        """Of the record that we have read or written last."""
        self.record: DaemonRecord | None = None

    def load(self) -> str | None:
        """Read the record that an earlier supervisor left. A damaged one is set aside, and the fault returned; one
        that was written in another directory is a copy, and removed.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            self.record = records.read(self.path, DaemonRecord)
        except DamagedRecord as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.replace(aside)
            self.record = None
            return f"{error}; moved aside to {aside.name}"
        self._token = self.record.token if self.record is not None else None
        if self.record is not None and not self._ownership.counts(self.record):
            self.clear()
        return None

    def intend(self, record: DaemonRecord) -> None:
        """Write down that a process with this token is about to be spawned.

        Raises:
            OSError: it could not be written: there must be no spawn.
        """
        write_struct(self.path, record)
        self.record = record
        self._token = record.token

    def establish(self, pid: int, identity: Identity) -> DaemonRecord:
        """Write down which process it became.

        Raises:
            OSError: it could not be written. The intent still leads to the process, by the mark it carries.
        """
        assert self.record is not None
        self.record = msgspec.structs.replace(self.record, pid=pid, identity=identity)
        write_struct(self.path, self.record)
        return self.record

    def move(self) -> None:
        """Write the record again, in the directory that has taken the place of a deleted one.

        Raises:
            OSError: it could not be written.
        """
        if self.record is not None:
            self.record = msgspec.structs.replace(self.record, directory=self._ownership.directory)
            write_struct(self.path, self.record)

    def clear(self) -> None:
        """Remove the record: nothing of the daemon lives. Another supervisor's is left alone: the state directory may
        have become its own."""
        self.record = None
        if self._ownership.is_here() and not self._is_anothers():
            self.path.unlink(missing_ok=True)

    def _is_anothers(self) -> bool:
        """Another supervisor has taken the directory over, and written a record of its own."""
        if self._token is None:
            return False
        try:
            found = records.read(self.path, DaemonRecord)
        except (DamagedRecord, OSError):
            return False
        return found is not None and found.token != self._token
