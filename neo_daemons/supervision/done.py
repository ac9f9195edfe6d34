"""Remember that a daemon that runs once has succeeded, so that it does not run again for each supervisor."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from neo_daemons import records
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, DoneRecord

from .ownership import Ownership


class DoneFile:
    """The record that one daemon is done, from the end of a successful run until its next spawn."""

    def __init__(self, path: Path, ownership: Ownership) -> None:
        self.path = path
        self._ownership = ownership
        self.record: DoneRecord | None = None

    def load(self) -> str | None:
        """Read the record that an earlier supervisor left. Move a damaged one aside and return the error. Ignore a
        copy, which was written in another directory: it tells nothing of the data that are here.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            self.record = records.read(self.path, DoneRecord)
        except DamagedRecord as error:
            return records.move_aside(error)
        if self.record is not None and not self._ownership.counts(self.record):
            self.record = None
        return None

    def finish(self, run: DaemonRecord) -> None:
        """Remember that this run has succeeded.

        Raises:
            OSError: it could not be written. It is remembered as long as this supervisor runs.
        """
        self.record = DoneRecord(
            directory=run.directory,
            name=run.name,
            token=run.token,
            fingerprint=run.fingerprint,
            runs_below=run.runs_below,
            at=time.time(),
        )
        write_struct(self.path, self.record, sync=True)

    def forget(self) -> None:
        """Let it no longer count as done.

        Raises:
            OSError: the file cannot be removed, so that a later supervisor would read it.
        """
        self.record = None
        if self._ownership.is_here():
            self.path.unlink(missing_ok=True)

    def move(self) -> None:
        """Write the record again, in the directory that replaced a deleted one."""
        if self.record is not None:
            self.record = msgspec.structs.replace(self.record, directory=self._ownership.directory)
            with contextlib.suppress(OSError):  # then it runs once more
                write_struct(self.path, self.record, sync=True)
