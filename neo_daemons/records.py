"""Reads the records in a state directory: the PID record of a daemon, and the supervisor's own.

This uses no locks and no processes, because observers read records too. An invalid record raises `DamagedRecord`;
nothing is guessed.
"""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
import errno
import os
import stat
import time
from pathlib import Path
from typing import Annotated, Self, TypeVar

import msgspec
from msgspec import Meta, Struct

from .definitions import PortNumber
from .files import read_regular
from .unpatched import Unpatched

FORMAT = 1
MAX_BYTES = 1_000_000
UNPLACED = "is of a version before 0.1.0, which did not write down the directory that it belongs to"
"""What is said of a record without a `directory`. It proves nothing, wherever it is."""
AnyPid = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""A process id. In a container, pid 1 can be a supervisor or a test run."""
Pid = Annotated[int, Meta(ge=2, le=2**31 - 1)]
"""A daemon's process id; 0, 1 and negative numbers have other meanings for kill(2) and never identify a daemon."""


Moment = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Seconds since the epoch, up to the end of the year 9999, so that they can be shown as a date."""


class Unseen(Exception):
    """The system does not show a process, which may still be running; ``str()`` says why."""


class Identity(Struct, frozen=True):
    """What distinguishes a process from every other that had or will have its pid."""

    boot_id: str
    start_time: float
    """In clock ticks since the boot (Linux), or in seconds since the epoch."""
    inode: int | None = None
    """The inode of the process's pidfd, if the kernel makes it unique (Linux ≥ 6.9); the unique id (macOS)."""

    def matches(self, other: Self) -> bool:
        """Return whether both are the same process."""
        if self.boot_id != other.boot_id:
            return False
        if self.inode is not None and other.inode is not None:
            return self.inode == other.inode
        return self.start_time == other.start_time


class Directory(Struct, frozen=True):
    """The state directory in which a record was written. A copy or a restored backup is a different directory."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return the directory that is at `path` now; None if there is none, or it is not accessible."""
        try:
            found = Unpatched.stat(str(path))
        except OSError:
            return None
        return cls(str(path), found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None

    @classmethod
    def behind(cls, descriptor: int, path: Path) -> Self:
        """Return the directory that a descriptor refers to, with the path `path`.

        Raises:
            OSError: the descriptor is closed.
        """
        found = os.fstat(descriptor)
        return cls(str(path), found.st_dev, found.st_ino)

    @property
    def key(self) -> str:
        """The device and inode as ``device.inode`` in hexadecimal digits."""
        return f"{self.device:x}.{self.inode:x}"

    def is_same(self, other: Self) -> bool:
        """Return whether both are the same directory, even if it was moved or mounted elsewhere."""
        return (self.device, self.inode) == (other.device, other.inode)


class DaemonRecord(Struct, frozen=True, kw_only=True):
    """The PID file of a daemon: an intent before the spawn (`pid` is None), a fact after it."""

    format: int = FORMAT
    directory: Directory | None = None
    """Where it was written. A record proves nothing in any other directory."""
    name: str
    token: str
    """The token of the mark in the process's environment."""
    fingerprint: str
    command: tuple[str, ...]
    ports: dict[str, PortNumber]
    url: str | None
    data_dir: str | None
    log_path: str
    spawned_at: float
    """Seconds since the epoch."""
    log_offset: int
    """The size of the log at the spawn; this run's output follows."""
    pid: Pid | None = None
    identity: Identity | None = None
    log_inode: int | None = None
    """Inode number of the log that the process writes to."""
    restarts: int = 0
    exports: dict[str, str] = {}
    """Environment variables by which programs that use the daemon find it."""
    used: dict[str, str] = {}
    """The values of other daemons that it was started with, by reference name: ``{"daemons.db.port": "8001"}``."""
    runs_below: dict[str, str] = {}
    """The daemons that it cascades from → the token of their run at its start; empty if there was none."""


class DoneRecord(Struct, frozen=True, kw_only=True):
    """A daemon that runs once has succeeded."""

    format: int = FORMAT
    directory: Directory | None = None
    """Where it was written. A record proves nothing in any other directory."""
    name: str
    token: str
    """The token of the run that succeeded."""
    fingerprint: str
    runs_below: dict[str, str] = {}
    """The daemons that it cascades from → the token of their run at its start; empty if there was none."""
    at: Moment
    """When it ended; seconds since the epoch."""


class SupervisorRecord(Struct, frozen=True, kw_only=True):
    """The supervisor of a state directory, and how to reach it."""

    format: int = FORMAT
    directory: Directory | None = None
    """Where it was written. A record proves nothing in any other directory."""
    pid: AnyPid
    identity: Identity
    token: str
    """The token of the mark in the processes that it runs to provision daemons."""
    version: str
    socket: str
    config: str | None
    started_at: Moment


class Intentions(Struct, frozen=True, kw_only=True):
    """The orders of an operator that must survive the supervisor and a power cut."""

    format: int = FORMAT
    held: tuple[str, ...] = ()


class DamagedRecord(ValueError):
    """A state file is invalid; ``str()`` names the file and the problem."""

    def __init__(self, path: Path, fault: str) -> None:
        self.path = path
        super().__init__(f"{path}: {fault}")


class NewerRecord(DamagedRecord):
    """A later version wrote the file, in a format that this one does not know. Its content is not lost."""

    def __init__(self, path: Path, found: int) -> None:
        super().__init__(
            path, f"a later version of neo-daemons wrote it (format {found}; this one reads {FORMAT}): use that version"
        )


class _Format(Struct, frozen=True):
    """What all records have, whatever else a later version writes."""

    format: int = FORMAT


R = TypeVar("R", DaemonRecord, DoneRecord, SupervisorRecord, Intentions)


def read(path: Path, kind: type[R]) -> R | None:
    """Return the record in the file, or None if there is no such file.

    Raises:
        NewerRecord: a later version wrote it.
        DamagedRecord: the file is incomplete, of another format, or not a record at all.
        OSError: it cannot be read.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR):
            raise DamagedRecord(path, str(error.strerror)) from None
        raise
    if len(data) > MAX_BYTES:
        raise DamagedRecord(path, "larger than any record")
    try:
        record = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse_newer(path, data)
        raise DamagedRecord(path, str(error)) from None
    except RecursionError:
        raise DamagedRecord(path, "nested too deeply") from None
    if record.format > FORMAT:
        raise NewerRecord(path, record.format)
    if record.format != FORMAT:
        raise DamagedRecord(path, f"format {record.format}, but this version reads format {FORMAT}")
    return record


def refuse_newer(path: Path, data: bytes | None = None) -> None:
    """Refuse a file that a later version wrote, whatever kind of record it is.

    Args:
        data: its content, if it was read already.

    Raises:
        NewerRecord: a later version wrote it.
    """
    try:
        found = msgspec.json.decode(read_regular(path, MAX_BYTES) if data is None else data, type=_Format).format
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # its reader says what is wrong with it
    if found > FORMAT:
        raise NewerRecord(path, found)


def move_aside(error: DamagedRecord) -> str:
    """Move a damaged file aside, where it can be looked at. Returns the error with the file's new name.

    Raises:
        OSError: it cannot be moved.
    """
    aside = error.path.with_name(f"{error.path.name}.damaged-{time.time_ns()}")
    error.path.replace(aside)
    return f"{error}; moved aside to {aside.name}"


def origin(record: DaemonRecord | SupervisorRecord, state_dir: Path) -> str | None:
    """Return the directory in which a record found in `state_dir` was written; None if it was this one. A copied record
    does not describe what runs here."""
    here = Directory.of(state_dir)
    if record.directory is None:
        return "an unknown directory"
    return None if here is not None and record.directory.is_same(here) else record.directory.path
