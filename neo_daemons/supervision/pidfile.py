"""Owning a daemon's PID file: intent before the spawn, fact after it, and what a record proves about the living."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from neo_daemons import records
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, DamagedRecord, Identity

from .platform import NotOurs, Platform, Process


class PidFile:
    """The record of one daemon, in the hands of its supervisor.

    The lock that goes with it (``NAME.lock``) is held by the daemon's own processes: they inherit it, so the kernel
    can say whether any of them lives, whatever became of the supervisor.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: DaemonRecord | None = None

    def load(self) -> str | None:
        """Read the record that an earlier supervisor left. A damaged one is set aside, and the fault returned.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            self.record = records.read(self.path, DaemonRecord)
        except DamagedRecord as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.replace(aside)
            self.record = None
            return f"{error}; set aside as {aside.name}"
        return None

    def intend(self, record: DaemonRecord) -> None:
        """Write down that a process with this token is about to be spawned.

        Raises:
            OSError: it could not be written: there must be no spawn.
        """
        write_struct(self.path, record)
        self.record = record

    def establish(self, pid: int, identity: Identity) -> DaemonRecord:
        """Write down which process it became.

        Raises:
            OSError: it could not be written. The intent still leads to the process, by the mark it carries.
        """
        assert self.record is not None
        self.record = msgspec.structs.replace(self.record, pid=pid, identity=identity)
        write_struct(self.path, self.record)
        return self.record

    def clear(self) -> None:
        """Remove the record: nothing of the daemon lives."""
        self.record = None
        self.path.unlink(missing_ok=True)


def find_living(platform: Platform, record: DaemonRecord, state_dir: Path) -> tuple[Process | None, str | None]:
    """The process that a record speaks of, if it lives and is proven to be that; else None and, where the record
    speaks of somebody else's process, what was found there.

    Raises:
        Unverifiable: a process has that pid and cannot be looked at: unknown is not dead.
    """
    if record.pid is None or record.identity is None:
        # A crash between intent and fact: the mark leads to what was spawned, its session's leader first.
        found = [marked for marked, _ in platform.marked(lambda mark: mark.token == record.token)]
        found.sort(key=lambda marked: marked.pid)
        for stray in found[1:]:
            stray.close()
        return (found[0], None) if found else (None, None)
    if record.identity.boot_id != platform.boot_id():
        return None, None
    try:
        process = platform.open(record.pid, record.identity)
    except NotOurs as error:
        return None, f"the record names pid {record.pid}, which is not ours: {error}"
    if process is None:
        return None, None
    mark = platform.mark_of(record.pid)
    if mark is None or mark.token != record.token or mark.state_dir != str(state_dir):
        # A programme may overwrite its environment; then the lock that it inherited speaks for it. That somebody holds
        # the lock proves nothing: it may be the daemon itself, and the record be wrong about who that is.
        heirs = platform.heirs(state_dir / "daemons" / f"{record.name}.lock")
        is_heir = any(heir.pid == process.pid for heir in heirs)
        for heir in heirs:
            heir.close()
        if not is_heir:
            process.close()
            return (
                None,
                f"the record names pid {record.pid} ({platform.describe(record.pid)}), which bears no mark of ours",
            )
    return process, None
