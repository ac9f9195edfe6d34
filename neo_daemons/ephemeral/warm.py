"""The sessions that are kept warm: what they are, and ending them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons.control.client import Client, ControlError
from neo_daemons.locks import is_held
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.presence import Presence, presence
from neo_daemons.unpatched import Unpatched

from . import session as sessions
from .clear import end_what_is_left
from .places import WARM, base, is_there, lock_of

POLL_S = 0.01
ENDED_S = 30.0
"""How long to wait for a supervisor to stop. It needs the grace periods of its daemons."""


class WarmSession(Struct, frozen=True, kw_only=True):
    """A session that is kept warm."""

    name: str
    state_dir: str
    project: str | None
    """The root directory of the project; None if the session's file cannot be read."""
    config: str | None
    """The configuration file, if there is one."""
    daemons: tuple[str, ...]
    """The daemons that run in it."""
    age_s: float
    """Seconds since its supervisor was started."""
    bytes: int
    """What its files take up: data and logs."""
    keep_s: float | None
    """How long it is kept after a run, in seconds."""
    in_use: bool
    """Whether a run is using it now."""
    replaced: str | None
    """Why it was started although there was one for the project; None if there was none."""


def warm_sessions() -> Iterator[WarmSession]:
    """Return the sessions of this user, and of this directory for temporary files, that are kept warm and run.

    Raises:
        StateDirError: the directory of all sessions cannot be used.
    """
    for directory in sorted(base().glob(WARM)) if is_there() else ():
        state_dir = StateDir(directory)
        with contextlib.suppress(OSError):  # it is ending
            if directory.is_dir() and presence(state_dir) is Presence.RUNNING:
                yield _describe(state_dir)


def _describe(state_dir: StateDir) -> WarmSession:
    record = sessions.read(state_dir)
    started_at, names = state_dir.path.stat().st_mtime, list[str]()
    with contextlib.suppress(ControlError):
        status = Client(state_dir).status()
        started_at = status.supervisor.started_at
        names = [daemon.name for daemon in status.daemons if daemon.pid is not None]
    return WarmSession(
        name=state_dir.path.name,
        state_dir=str(state_dir.path),
        project=record.root if record is not None else None,
        config=record.source if record is not None else None,
        daemons=tuple(names),
        age_s=max(time.time() - started_at, 0.0),
        bytes=_bytes(state_dir.path),
        keep_s=record.keep_s if record is not None else None,
        in_use=is_held(lock_of(state_dir)),
        replaced=record.replaced if record is not None else None,
    )


def _bytes(directory: Path) -> int:
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # it has been removed meanwhile
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def end(session: WarmSession) -> str | None:
    """End a session with its daemons, and remove its files. Return why that is not possible; None if it is done."""
    state_dir, platform = StateDir(Path(session.state_dir)), current_platform()
    try:
        lock = platform.lock(lock_of(state_dir))
        if lock is None:
            return "a run is using it; wait until the run has ended"
        try:
            if not stop_supervisor(state_dir):
                return f"its supervisor does not stop; run: {state_dir.command('down')}"
            end_what_is_left(state_dir, platform)
            if not sessions.remove_files(state_dir, platform):
                return f"a process of it cannot be stopped; run: {state_dir.command('doctor')}"
        finally:
            lock.release()
    except (OSError, StateDirError) as error:
        return str(error)
    return None


def stop_supervisor(state_dir: StateDir) -> bool:
    """Make the supervisor of a session stop, and wait for that. Return False if it does not."""
    with contextlib.suppress(ControlError):
        Client(state_dir).shutdown()
    deadline = Unpatched.monotonic() + ENDED_S
    while presence(state_dir) is Presence.RUNNING:
        if Unpatched.monotonic() > deadline:
            return False
        Unpatched.sleep(POLL_S)
    return True
