"""Whether a supervisor lives in a state directory, and who it is: whoever wants to know asks here.

The kernel's lock decides, not the supervisor's record: that may be damaged, deleted, or copied from another directory.
`presence` looks at the lock alone, which costs microseconds. `find_supervisor` also finds a supervisor whose files were
deleted while it ran, and says who it is.

Importing this module imports no platform: the client of the control API uses it.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from msgspec import Struct

from neo_daemons import locks, records
from neo_daemons.records import DamagedRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.unpatched import Unpatched

from .platform import NotOurs, Platform, Process, Unverifiable, current_platform


class Presence(Enum):
    """What the lock of a state directory says about its supervisor."""

    RUNNING = "running"
    """A process holds the lock: a supervisor lives, whether or not it can be reached."""
    ABSENT = "absent"
    """Nobody holds the lock. A supervisor does not delete it when it ends."""
    UNUSED = "unused"
    """The directory holds neither a lock nor a record: most likely no supervisor has ever run in it."""
    LOCK_DELETED = "lock deleted"
    """The lock, or the whole directory, is gone: a supervisor may live that is cut off, and will make it again within
    seconds. `find_supervisor` tells."""


def presence(state_dir: StateDir) -> Presence:
    """What the lock says.

    Raises:
        OSError: the lock cannot be looked at.
    """
    if locks.is_held(state_dir.lock):
        return Presence.RUNNING
    if _exists(state_dir.lock):
        return Presence.ABSENT
    return Presence.LOCK_DELETED if _exists(state_dir.record) or not _exists(state_dir.path) else Presence.UNUSED


def _exists(path: Path) -> bool:
    try:
        Unpatched.stat(str(path))
    except OSError:
        return False
    return True


class FoundSupervisor(Struct):
    """A supervisor of a state directory. It lives, whether or not it can be reached."""

    state_dir: StateDir
    process: Process | None
    """None where the system does not say who holds the lock."""
    record: SupervisorRecord | None
    """None if its files do not say who it is."""
    fault: str | None
    """What is wrong with the files by which it is found, if anything is."""

    def __str__(self) -> str:
        return f"pid {self.process.pid}" if self.process is not None else "an unidentified process"

    @property
    def problem(self) -> str:
        """Who holds the directory, where `record` is None: the files of the directory do not say."""
        return f"{self.state_dir.path} is held by {self}, and {self.fault}"

    @property
    def remedy(self) -> str:
        """What to do about `problem`."""
        return f"stop it and its daemons: neo-daemons down --state-dir {self.state_dir.path}"

    def close(self) -> None:
        """Close the process."""
        if self.process is not None:
            self.process.close()


def find_supervisor(state_dir: StateDir, platform: Platform | None = None) -> FoundSupervisor | None:
    """Who supervises a state directory; None if nobody does. The caller closes what is found.

    Where there is no lock, this looks at all processes of this user, which takes milliseconds.

    Args:
        platform: by default that of this machine.

    Raises:
        OSError: a file cannot be read for another reason than that it is missing.
    """
    record, fault = _read(state_dir)
    seen = presence(state_dir)
    if seen is Presence.ABSENT:
        return None
    platform = platform or current_platform()
    if record is not None:
        try:
            process = platform.open(record.pid, record.identity)
        except (NotOurs, Unverifiable) as error:
            process, fault = None, f"names another process ({error})"
        if process is not None:
            return FoundSupervisor(state_dir, process, record, None)
        fault = fault or f"names pid {record.pid}, which has exited"
    is_held = seen is Presence.RUNNING
    holders = platform.lock_holders(state_dir.lock, deleted=not is_held)
    if not is_held and not holders:
        return None
    for other in holders[1:]:
        other.close()
    if not is_held:
        fault = (
            "was deleted while it runs; it is recreated within seconds, "
            f"unless {state_dir.path} now belongs to another supervisor"
        )
    process = holders[0] if holders else None
    return FoundSupervisor(state_dir, process, None, f"{state_dir.record} {fault or 'is missing'}")


def _read(state_dir: StateDir) -> tuple[SupervisorRecord | None, str | None]:
    """The supervisor's record if it counts here; else None, and what is wrong with it if there is one."""
    try:
        record = records.read(state_dir.record, SupervisorRecord)
    except DamagedRecord as error:
        return None, f"is damaged ({str(error).removeprefix(f'{state_dir.record}: ')})"
    if record is None:
        return None, None
    origin = records.origin(record, state_dir.path)
    return (record, None) if origin is None else (None, f"is a copy: it was written in {origin}")
