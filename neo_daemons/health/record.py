"""Verifies the PID record of a daemon: whether the state directory describes it correctly."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from neo_daemons import processes, records
from neo_daemons.records import DaemonRecord, DamagedRecord, Identity, SupervisorRecord, Unseen
from neo_daemons.state_dir import StateDir

from .observation import RecordStatus


class Verification(Struct, frozen=True, kw_only=True):
    """A PID record, and whether it is correct."""

    status: RecordStatus
    record: DaemonRecord | None = None
    fault: str | None = None
    """Why the record is not `live`."""
    supervised: bool | None = None
    """Whether a supervisor is running; None if that is unknown."""

    @property
    def living(self) -> DaemonRecord | None:
        """The record, if its process is running."""
        return self.record if self.status == "live" else None

    @property
    def pid(self) -> int | None:
        """The pid of the daemon's process, if it is running."""
        return self.living.pid if self.living is not None else None

    @property
    def managed(self) -> bool | None:
        """Whether a running supervisor manages the process."""
        if self.status in ("live", "starting"):
            return self.supervised
        return None if self.status in ("unproven", "damaged", "elsewhere") else False

    def elsewhere(self, recorded: str) -> Verification:
        """Return the verification of a record that describes a daemon at another address than the one being checked."""
        fault = f"the PID record describes a daemon at another address ({recorded})"
        return Verification(status="elsewhere", supervised=self.supervised, fault=fault)


def verify(state: StateDir, name: str) -> Verification:
    """Read and verify the record of the daemon `name`. Never raises."""
    path = state.daemon_record(name)
    supervised = _is_supervised(state)
    try:
        _check_owner(state.path)
        record = records.read(path, DaemonRecord)
        if record is None:
            why = "the daemon is not running" if supervised else "the daemon was not started"
            return Verification(status="missing", supervised=supervised, fault=f"there is no PID record {path}: {why}")
        origin = records.origin(record, state.path)
        if origin is not None:
            copied = f"the PID record {path} was copied from {origin} and does not apply here"
            return Verification(status="missing", supervised=supervised, fault=copied)
        if record.name != name:
            raise DamagedRecord(path, f"is a record of {record.name!r}")
        if record.pid is None or record.identity is None:
            missing = "it is being started" if supervised else "the supervisor that was starting it is gone"
            return Verification(
                status="starting" if supervised else "stale", record=record, supervised=supervised, fault=missing
            )
        fault = _disproof(record.pid, record.identity)
        if fault is None and not _bears_mark(record.pid, record.token, state.daemon_lock(name)):
            raise Unseen(f"recorded pid {record.pid} does not carry the daemon's mark; the record may be forged")
    except (DamagedRecord, ForeignDirectory) as error:
        return Verification(status="damaged", supervised=supervised, fault=f"its PID record cannot be used: {error}")
    except Unseen as error:
        return Verification(status="unproven", record=record, supervised=supervised, fault=str(error))
    except OSError as error:
        unread = f"its PID record {path} cannot be read: {error.strerror}"
        return Verification(status="unproven", supervised=supervised, fault=unread)
    if fault is not None:
        stale = f"its PID record is stale: {fault}"
        return Verification(status="stale", record=record, supervised=supervised, fault=stale)
    return Verification(status="live", record=record, supervised=supervised)


class ForeignDirectory(Exception):
    """The state directory belongs to another user; ``str()`` says to which one."""


def _check_owner(path: Path) -> None:
    # A record that another user wrote could send us anywhere. Root may read the records of all users.
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid() and os.geteuid() != 0:
        raise ForeignDirectory(f"{path} is owned by user id {owner}, but you are user id {os.geteuid()}")


def _is_supervised(state: StateDir) -> bool | None:
    try:
        record = records.read(state.record, SupervisorRecord)
        if record is None or records.origin(record, state.path) is not None:
            return False
        return _disproof(record.pid, record.identity) is None
    except (DamagedRecord, OSError, Unseen):
        return None


def _bears_mark(pid: int, token: str, lock: Path) -> bool:
    """Return whether the process belongs to this record: it has the token in its environment or the daemon's lock open.
    True if neither can be read: macOS withholds only the environment, and of some programs only."""
    marked = processes.environment_holds(pid, token) if token else False
    if marked:
        return True
    opened = processes.has_open(pid, lock)
    return marked is None if opened is None else opened


def _disproof(pid: int, identity: Identity) -> str | None:
    """Return why the recorded process is gone; None if it is running."""
    if identity.boot_id != processes.boot_id():
        return f"pid {pid} is from an earlier boot"
    found = processes.identify(pid)
    if found is None:
        return f"pid {pid} is gone"
    if not found.matches(identity):
        return f"pid {pid} is another process now ({' '.join(processes.command(pid))[:100]})"
    return None
