"""Clearing away sessions whose supervisor and users have died: the processes that are proven theirs, then the files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons.control.address import socket_path
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.supervision.platform import Platform, current_platform
from neo_daemons.supervision.survey import Orphan, reap, running_supervisor

from .session import lock_of

PATTERNS = ("run-*", "warm-*")


class Cleared(Struct, frozen=True):
    """A session that is no more, and the processes of it that were ended."""

    state: StateDir
    ended: tuple[Orphan, ...]


def clear(base: Path, *, skip: str) -> Iterator[Cleared]:
    """Clear away every dead session in `base` but that of the name `skip`."""
    platform = current_platform()
    directories = [path for pattern in PATTERNS for path in base.glob(pattern) if path.is_dir() and path.name != skip]
    for directory in directories:
        state = StateDir(directory)
        with contextlib.suppress(OSError):
            lock = platform.lock(lock_of(state))
            if lock is None:
                continue
            try:
                # Its users hold its lock while they live; its supervisor may outlive them for a moment, or be warm.
                if running_supervisor(state, platform) is None and directory.is_dir():
                    yield clear_one(state, platform)
                    if directory.name.startswith("run-"):
                        lock_of(state).unlink(missing_ok=True)
            finally:
                lock.release()


def clear_one(state: StateDir, platform: Platform) -> Cleared:
    """Clear away one session, whose lock the caller holds and whose supervisor is dead."""
    ended = reap(state, platform).ended
    with contextlib.suppress(OSError, StateDirError):
        socket_path(state.path).unlink(missing_ok=True)
    shutil.rmtree(state.path, ignore_errors=True)
    return Cleared(state, ended)
