"""Find out where the records in a state directory were written: a project may be copied, moved, or restored."""

from __future__ import annotations

import contextlib
from enum import Enum

from msgspec import Struct

from neo_daemons import records
from neo_daemons.records import DaemonRecord, DamagedRecord, Directory, SupervisorRecord
from neo_daemons.state_dir import StateDir


class Way(Enum):
    """How records came to a state directory in which they were not written."""

    COPIED = "copied"
    """They were written in a directory elsewhere, which may still be in use."""
    MOVED = "moved"
    """They were written in this directory when it was elsewhere, so they are valid here."""
    REPLACED = "replaced"
    """They were written in an earlier directory at this path: a backup was restored, or the directory recreated."""


class Provenance(Struct, frozen=True):
    """Where records were written, and how they came here."""

    way: Way
    directory: Directory


def provenance(state_dir: StateDir) -> Provenance | None:
    """Find out where the records in a state directory without a supervisor were written; None if that was here, or
    is unknown. The supervisor's own record comes first."""
    here = Directory.of(state_dir.path)
    if here is None:
        return None
    found: list[SupervisorRecord | DaemonRecord | None] = []
    with contextlib.suppress(DamagedRecord, OSError):
        found.append(records.read(state_dir.record, SupervisorRecord))
    for path in state_dir.daemons.glob("*.json"):
        with contextlib.suppress(DamagedRecord, OSError):
            found.append(records.read(path, DaemonRecord))
    for record in found:
        written_in = record.directory if record is not None else None
        if written_in is None or written_in == here:
            continue
        if written_in.is_same(here):
            return Provenance(Way.MOVED, written_in)
        return Provenance(Way.COPIED if written_in.path != here.path else Way.REPLACED, written_in)
    return None
