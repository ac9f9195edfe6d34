"""What a state directory says of a daemon: its PID record, and whether that is true."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from neo_daemons import procfs, records
from neo_daemons.procfs import NotTold
from neo_daemons.records import DaemonRecord, DamagedRecord, Identity, SupervisorRecord
from neo_daemons.state_dir import StateDir

from .observation import Standing


class Evidence(Struct, frozen=True, kw_only=True):
    """A PID record, and what it is worth."""

    standing: Standing
    record: DaemonRecord | None = None
    fault: str | None = None
    """Why it is not `live`."""
    supervised: bool | None = None
    """Whether a supervisor lives; None if this system does not tell."""

    @property
    def pid(self) -> int | None:
        """Of the daemon's process, if it lives."""
        return self.record.pid if self.record is not None and self.standing == "live" else None

    @property
    def managed(self) -> bool | None:
        """Whether a living supervisor keeps the process."""
        if self.standing in ("live", "starting"):
            return self.supervised
        return None if self.standing in ("unproven", "damaged", "elsewhere") else False


def weigh(state: StateDir, name: str) -> Evidence:
    """Read and prove the record of the daemon `name`. Raises nothing."""
    path = state.daemon_record(name)
    supervised = _is_supervised(state)
    try:
        _check_owner(state.path)
        record = records.read(path, DaemonRecord)
        if record is None:
            why = "it does not run now" if supervised else "it was not started"
            return Evidence(standing="missing", supervised=supervised, fault=f"there is no PID record {path}: {why}")
        origin = records.origin(record, state.path)
        if origin is not None:
            copied = f"its PID record {path} was copied from {origin}: it says nothing of what runs here"
            return Evidence(standing="missing", supervised=supervised, fault=copied)
        if record.name != name:
            raise DamagedRecord(path, f"is the record of {record.name!r}")
        if record.pid is None or record.identity is None:
            missing = "it is being started" if supervised else "the supervisor that was starting it is gone"
            return Evidence(
                standing="starting" if supervised else "stale", record=record, supervised=supervised, fault=missing
            )
        fault = _disproof(record.pid, record.identity)
        if fault is None and not _bears_mark(record.pid, record.token, state.daemon_lock(name)):
            raise NotTold(f"pid {record.pid} on record bears no mark of it: the record may be forged")
    except (DamagedRecord, NotOurs) as error:
        return Evidence(standing="damaged", supervised=supervised, fault=f"its PID record cannot be used: {error}")
    except NotTold as error:
        return Evidence(standing="unproven", record=record, supervised=supervised, fault=str(error))
    except OSError as error:
        unread = f"its PID record {path} cannot be read: {error.strerror}"
        return Evidence(standing="unproven", supervised=supervised, fault=unread)
    if fault is not None:
        stale = f"its PID record is stale: {fault}"
        return Evidence(standing="stale", record=record, supervised=supervised, fault=stale)
    return Evidence(standing="live", record=record, supervised=supervised)


class NotOurs(Exception):
    """The state directory is somebody else's. ``str()`` says whose."""


def _check_owner(path: Path) -> None:
    # What another user writes there could send us anywhere. Root may look at everybody's.
    try:
        owner = path.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid() and os.geteuid() != 0:
        raise NotOurs(f"{path} belongs to user id {owner}, and this is {os.geteuid()}")


def _is_supervised(state: StateDir) -> bool | None:
    try:
        record = records.read(state.record, SupervisorRecord)
        if record is None or records.origin(record, state.path) is not None:
            return False
        return _disproof(record.pid, record.identity) is None
    except (DamagedRecord, OSError, NotTold):
        return None


def _bears_mark(pid: int, token: str, lock: Path) -> bool:
    """Whether the process was started from this record: it has the token in its environment, or holds the daemon's
    lock open. True where that is not ours to see."""
    if token and procfs.environment_holds(pid, token) is not False:
        return True
    return str(lock) in procfs.open_files(pid)


def _disproof(pid: int, identity: Identity) -> str | None:
    """Why the process on record is not there any more; None if it is."""
    if identity.boot_id != procfs.boot_id():
        return f"pid {pid} was of another boot"
    found = procfs.identify(pid)
    if found is None:
        return f"pid {pid} is gone"
    if not found.matches(identity):
        return f"pid {pid} is another process now ({' '.join(procfs.command(pid))[:100]})"
    return None
