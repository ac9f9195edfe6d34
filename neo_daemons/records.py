"""The state directory's files as data: the PID record of a daemon, the supervisor's own, and their reading.

No locks, no processes: observers read these too. What is not a valid record is a `DamagedRecord`, never a guess.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from .definitions import PortNumber
from .files import read_regular
from .unpatched import Unpatched

FORMAT = 1
MAX_BYTES = 1_000_000
AnyPid = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""A process id. In a container pid 1 can be a supervisor, or whoever runs the tests."""
Pid = Annotated[int, Meta(ge=2, le=2**31 - 1)]
"""A daemon's process id; 0, 1 and negative numbers mean something else to kill(2) and never name a daemon."""


Moment = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Seconds since the epoch, up to the end of the year 9999: what can be shown as a date."""


class Identity(Struct, frozen=True):
    """What tells a process from every other that had or will have its pid."""

    boot_id: str
    start_time: float
    """Since the boot in clock ticks (Linux), or since the epoch in seconds."""
    inode: int | None = None
    """Of the process's pidfd, where the kernel makes it unique (Linux ≥ 6.9)."""

    def matches(self, other: Identity) -> bool:
        """Whether both are the same process."""
        if self.boot_id != other.boot_id:
            return False
        if self.inode is not None and other.inode is not None:
            return self.inode == other.inode
        return self.start_time == other.start_time


class Directory(Struct, frozen=True):
    """Which state directory a record was written in: a copy of the directory, or a backup put back, is another one."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Directory | None:
        """The directory at `path` now; None if there is none, or it cannot be seen."""
        try:
            found = Unpatched.stat(str(path))
        except OSError:
            return None
        return cls(str(path), found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None

    @classmethod
    def behind(cls, descriptor: int, path: Path) -> Directory:
        """The directory that a descriptor refers to, called `path`.

        Raises:
            OSError: the descriptor is closed.
        """
        found = os.fstat(descriptor)
        return cls(str(path), found.st_dev, found.st_ino)

    @property
    def key(self) -> str:
        """Device and inode, as ``device.inode`` in hexadecimal digits."""
        return f"{self.device:x}.{self.inode:x}"

    def is_same(self, other: Directory) -> bool:
        """Whether both are one directory, which may have been moved or mounted elsewhere between the two."""
        return (self.device, self.inode) == (other.device, other.inode)


class DaemonRecord(Struct, frozen=True, kw_only=True):
    """The PID file of a daemon: an intent before the spawn (`pid` is None), the fact after it."""

    format: int = FORMAT
    directory: Directory | None = None
    """Where it was written. A record proves nothing in any other directory."""
    name: str
    token: str
    """Of the mark in the process's environment."""
    fingerprint: str
    command: tuple[str, ...]
    ports: dict[str, PortNumber]
    url: str | None
    data_dir: str | None
    log_path: str
    spawned_at: float
    """Seconds since the epoch."""
    log_offset: int
    """Size of the log at the spawn: what follows is this run's."""
    pid: Pid | None = None
    identity: Identity | None = None
    log_inode: int | None = None
    """Inode number of the log that the process writes to."""
    restarts: int = 0
    exports: dict[str, str] = {}
    """Environment variables by which programs that use the daemon find it."""


class SupervisorRecord(Struct, frozen=True, kw_only=True):
    """Who supervises a state directory, and how to reach it."""

    format: int = FORMAT
    directory: Directory | None = None
    """Where it was written. A record proves nothing in any other directory."""
    pid: AnyPid
    identity: Identity
    token: str
    """Of the mark in processes that it runs to provision daemons."""
    version: str
    socket: str
    config: str | None
    started_at: Moment


class Intentions(Struct, frozen=True, kw_only=True):
    """What an operator said that must outlive the supervisor and a power cut."""

    format: int = FORMAT
    held: tuple[str, ...] = ()


class DamagedRecord(ValueError):
    """A state file that is not what it should be. ``str()`` names the file and the fault."""

    def __init__(self, path: Path, fault: str) -> None:
        self.path = path
        super().__init__(f"{path}: {fault}")


R = TypeVar("R", DaemonRecord, SupervisorRecord, Intentions)


def read(path: Path, kind: type[R]) -> R | None:
    """The record in the file, or None if there is no such file.

    Raises:
        DamagedRecord: the file is half-written, of another format, or not a record at all.
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
        raise DamagedRecord(path, str(error)) from None
    except RecursionError:
        raise DamagedRecord(path, "nested too deeply") from None
    if record.format != FORMAT:
        raise DamagedRecord(path, f"format {record.format}, and this version reads {FORMAT}")
    return record


def origin(record: DaemonRecord | SupervisorRecord, state_dir: Path) -> str | None:
    """Where a record found in `state_dir` comes from, if it was written in another directory: then it is a copy, and
    says nothing of what runs here. None if it was written in this one."""
    here = Directory.of(state_dir)
    if record.directory is None:
        return "a directory that an earlier version did not name"
    return None if here is not None and record.directory.is_same(here) else record.directory.path
