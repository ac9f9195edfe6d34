"""Defines the files of a session. This module starts no process."""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from neo_daemons.config.project import Configuration, Project
from neo_daemons.definitions import Definition
from neo_daemons.files import read_regular, write_struct, write_whole
from neo_daemons.records import AnyPid, Identity
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Lock, Platform
from neo_daemons.unpatched import Unpatched
from neo_daemons.version import VERSION

from .places import is_warm
from .surroundings import differing, digests, environment

FILE = "session.json"
WANTED = "wanted.json"
"""The file with the names of the daemons that a supervisor starts before it serves the control API."""
MAX_BYTES = 1 << 28
LABELS = {
    "version": "the version of neo-daemons",
    "python": "the Python interpreter",
    "source": "the configuration file",
    "cache": "the cache directory",
    "root": "the root directory",
}
"""What must be the same for a session that was kept warm to be used again, besides the environment."""
UNREADABLE = "its file is missing, or another version has written it"


class Owner(Struct, frozen=True):
    """The process that started a session. It counts as a lease until it holds one."""

    pid: AnyPid
    identity: Identity


class SessionRecord(Struct, frozen=True, kw_only=True):
    """The content of a session's file: the settings of its supervisor."""

    root: str
    cache: str
    source: str | None
    definitions: tuple[Definition, ...]
    changed: tuple[Definition, ...] = ()
    """Definitions that users of the session have added or changed."""
    parallel: int | None
    owner: Owner
    keep_s: float
    """How long to keep running after the last lease, in seconds."""
    version: str = VERSION
    python: str = sys.executable
    salt: str = ""
    environment: dict[str, str] = {}
    """The environment variables of the owner, with a digest of the value of each."""
    replaced: str | None = None
    """Why it was started although a session of the project was kept warm; None if there was none."""


def new(
    configuration: Configuration, owner: Owner, *, keep_s: float = 0.0, replaced: str | None = None
) -> SessionRecord:
    """Create a session for the daemons of a configuration."""
    project = configuration.project
    return SessionRecord(
        **_place(project, configuration.source),
        definitions=configuration.definitions,
        parallel=configuration.parallel,
        owner=owner,
        keep_s=keep_s,
        salt=(salt := Unpatched.urandom(16).hex()),
        environment=digests(project.environ, salt),
        replaced=replaced,
    )


def _place(project: Project, source: Path | None) -> dict[str, Any]:
    return {"root": str(project.root), "cache": str(project.cache), "source": str(source) if source else None}


def differences(kept: SessionRecord | None, configuration: Configuration, environ: Mapping[str, str]) -> str | None:
    """Return why a run cannot use a session that was kept warm; None if it can.

    Args:
        kept: that session; None if its file cannot be read.
        configuration: that of the run.
        environ: the environment of the run.
    """
    if kept is None:
        return UNREADABLE
    here = {"version": VERSION, "python": sys.executable, **_place(configuration.project, configuration.source)}
    found = []
    for field, label in LABELS.items():
        before, after = getattr(kept, field), here[field]
        if before != after:
            found.append(f"{label} changed ({before or 'none'} → {after or 'none'})")
    found += differing(kept.environment, digests(environ, kept.salt))
    return "; ".join(found) or None


def configuration(record: SessionRecord, state_dir: StateDir) -> Configuration:
    """Return the configuration from which a session was created."""
    project = Project(root=Path(record.root), cache=Path(record.cache), environ=environment(os.environ))
    return Configuration(
        project=project,
        state=state_dir,
        source=Path(record.source) if record.source else None,
        definitions=tuple(present(record).values()),
        parallel=record.parallel,
    )


def present(record: SessionRecord) -> dict[str, Definition]:
    """Return the current definitions, by name."""
    return {definition.name: definition for definition in (*record.definitions, *record.changed)}


def write(state_dir: StateDir, record: SessionRecord) -> None:
    """Write a session's file."""
    write_struct(state_dir.path / FILE, record)


def read(state_dir: StateDir) -> SessionRecord | None:
    """Return the session of a state directory; None if its file is missing or from another version."""
    try:
        return msgspec.json.decode(read_regular(state_dir.path / FILE, MAX_BYTES), type=SessionRecord)
    except (OSError, msgspec.DecodeError):
        return None


def want(state_dir: StateDir, names: Iterable[str]) -> None:
    """Make a supervisor that does not answer yet start these daemons.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(state_dir.path / WANTED, msgspec.json.encode(tuple(names)))


def take_wanted(state_dir: StateDir) -> tuple[str, ...]:
    """Return the daemons that `want` named, and forget them."""
    path = state_dir.path / WANTED
    try:
        content = read_regular(path, MAX_BYTES)
        path.unlink(missing_ok=True)
        return msgspec.json.decode(content, type=tuple[str, ...])
    except (OSError, msgspec.DecodeError):
        return ()  # they are started when they are needed


def remove(state_dir: StateDir, lock: Lock, platform: Platform) -> None:
    """Remove the files of a session that has ended, and release its lock."""
    if remove_files(state_dir, platform) and not is_warm(
        state_dir
    ):  # others may be waiting for the one of a warm session
        lock.path.unlink(missing_ok=True)
    lock.release()


def remove_files(state_dir: StateDir, platform: Platform) -> bool:
    """Remove the directory of a session without a supervisor. Return False if a process of it is still running and
    could not be stopped: the files prove to which session it belongs."""
    from neo_daemons.supervision.ownership import Ownership

    if Ownership(platform, state_dir).held_locks():
        return False
    shutil.rmtree(state_dir.path, ignore_errors=True)
    shutil.rmtree(state_dir.open_data, ignore_errors=True)
    return True
