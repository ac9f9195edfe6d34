"""Find out whether a supervisor runs in a state directory, and identify it.

The kernel's lock decides, not the supervisor's record: that may be damaged, deleted, or copied from another directory.
`presence` checks only the lock, which costs microseconds. `find_supervisor` also finds a supervisor whose files were
deleted while it ran, and identifies it.

Importing this module imports no platform: the client of the control API uses it.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from neo_daemons import locks, processes, records
from neo_daemons.records import DamagedRecord, SupervisorRecord, Unseen
from neo_daemons.state_dir import StateDir
from neo_daemons.unpatched import Unpatched

if TYPE_CHECKING:
    from .platform import Platform, Process

LOOKS = 5
"""A search is repeated as long as the lock changes meanwhile, at most this often."""


class Presence(Enum):
    """What the lock of a state directory says about its supervisor."""

    RUNNING = "running"
    """A process holds the lock: a supervisor runs, whether or not it can be reached."""
    ABSENT = "absent"
    """No process holds the lock. A supervisor does not delete it when it exits."""
    UNUSED = "unused"
    """The directory contains neither a lock nor a record: most likely no supervisor has ever run in it."""
    LOCK_DELETED = "lock deleted"
    """The lock, or the whole directory, is missing: a supervisor may still run and recreate it within seconds.
    `find_supervisor` finds it."""


def presence(state_dir: StateDir) -> Presence:
    """Check the lock of a state directory.

    Raises:
        OSError: the lock cannot be checked.
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
    """The running supervisor of a state directory, whether or not it can be reached."""

    state_dir: StateDir
    process: Process | None
    """None if the system does not report the lock holder."""
    record: SupervisorRecord | None
    """None if its files do not identify it."""
    fault: str | None
    """What is wrong with the files that identify it, if anything."""

    def __str__(self) -> str:
        return f"pid {self.process.pid}" if self.process is not None else "an unidentified process"

    @property
    def problem(self) -> str:
        """Describe the lock holder when `record` is None, and why the files do not identify it."""
        return f"{self.state_dir.path} is held by {self}, and {self.fault}"

    @property
    def remedy(self) -> str:
        """How to fix `problem`."""
        return f"stop it and its daemons: {self.state_dir.command('down')}"

    def close(self) -> None:
        """Close the process."""
        if self.process is not None:
            self.process.close()


def find_supervisor(state_dir: StateDir, platform: Platform | None = None) -> FoundSupervisor | None:
    """Find the supervisor of a state directory; None if none runs. The caller closes the result.

    If the lock is missing, this checks all processes of this user, which takes milliseconds.

    Args:
        platform: the default is that of this machine.

    Raises:
        OSError: a file exists but cannot be read.
    """
    seen = presence(state_dir)
    for _ in range(LOOKS):
        found, before = _find(state_dir, seen, platform), seen
        # A supervisor may have recreated its files while we searched for the holder of the deleted ones.
        if found is not None or (seen := presence(state_dir)) is before:
            return found
    return None


def _find(state_dir: StateDir, seen: Presence, platform: Platform | None) -> FoundSupervisor | None:
    from .platform import NotOurs, Unverifiable, current_platform

    record, fault = _read(state_dir)
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
    if not is_held:
        holders = _registered(state_dir, platform) if holders is None else holders or None
        if holders is None:
            return None
        fault = (
            "was deleted while it runs; it is recreated within seconds, "
            f"unless {state_dir.path} now belongs to another supervisor"
        )
    for other in (holders or [])[1:]:
        other.close()
    process = holders[0] if holders else None
    return FoundSupervisor(state_dir, process, None, f"{state_dir.record} {fault or 'is missing'}")


def _registered(state_dir: StateDir, platform: Platform) -> list[Process] | None:
    """Return the supervisor that the user's registry knows, if it can be opened; None if it knows none. It is asked
    where the system does not tell who holds a deleted lock."""
    from neo_daemons import registry

    from .platform import NotOurs, Unverifiable

    pid = registry.supervisor_of(state_dir.path)
    if pid is None:
        return None
    try:
        identity = processes.identify(pid)
        process = platform.open(pid, identity) if identity is not None else None
    except (NotOurs, Unverifiable, Unseen):
        return []
    return [process] if process is not None else None


def _read(state_dir: StateDir) -> tuple[SupervisorRecord | None, str | None]:
    """Return the supervisor's record if it is valid here; else None, and what is wrong with it if it exists."""
    try:
        record = records.read(state_dir.record, SupervisorRecord)
    except DamagedRecord as error:
        return None, f"is damaged ({str(error).removeprefix(f'{state_dir.record}: ')})"
    if record is None:
        return None, None
    origin = records.origin(record, state_dir.path)
    if record.directory is None:
        return None, records.UNPLACED
    return (record, None) if origin is None else (None, f"is a copy: it was written in {origin}")
