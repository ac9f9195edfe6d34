"""Removes sessions whose supervisor and users have died: first their processes, if proven, then their files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from neo_daemons.interpreter import installed_modules
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.supervision.platform import Platform, current_platform
from neo_daemons.supervision.presence import Presence, presence

from .places import PATTERNS, lock_of
from .session import remove

if TYPE_CHECKING:
    from neo_daemons.supervision.orphans import Orphan


class Cleared(Struct, frozen=True):
    """A removed session, and the processes of it that were stopped."""

    state_dir: StateDir
    ended: tuple[Orphan, ...]


def clear(base: Path, *, skip: str) -> Iterator[Cleared]:
    """Remove every dead session in `base` except the one named `skip`."""
    platform = current_platform()
    directories = [path for pattern in PATTERNS for path in base.glob(pattern) if path.is_dir() and path.name != skip]
    for directory in directories:
        state_dir = StateDir(directory)
        with contextlib.suppress(OSError, StateDirError):  # of one session: the others are removed anyway
            lock = platform.lock(lock_of(state_dir))
            if lock is None:
                continue
            try:
                # Its users hold its lock while they run; its supervisor may outlive them for a moment, or be warm.
                if directory.is_dir() and presence(state_dir) is not Presence.RUNNING:
                    yield Cleared(state_dir, end_what_is_left(state_dir, platform))
                    remove(state_dir, lock, platform)
            finally:
                lock.release()


def end_what_is_left(state_dir: StateDir, platform: Platform) -> tuple[Orphan, ...]:
    """Stop the processes of a session whose lock the caller holds and whose supervisor is dead, even if its directory
    is gone. Return these processes."""
    with installed_modules():  # here: a test run that finds its session warm does not need it
        from neo_daemons.control.address import socket_path
        from neo_daemons.supervision.reaping import reap

    ended = reap(state_dir, platform).ended
    with contextlib.suppress(OSError, StateDirError):
        socket_path(state_dir.path).unlink(missing_ok=True)
    return ended
