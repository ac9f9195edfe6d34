"""Ending what supervisors have left and nobody supervises: only what provably belongs to the state directory."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout
from msgspec import Struct

from neo_daemons import records
from neo_daemons.definitions import is_name
from neo_daemons.locks import supervisor_lock
from neo_daemons.records import DaemonRecord, DamagedRecord
from neo_daemons.state_dir import StateDir, StateDirError

from .ownership import FoundSupervisor, Ownership, find_supervisor
from .platform import Platform, Process

GRACE_S = 10.0
GIVE_UP_S = 5.0
"""What outlives SIGKILL for so long is asleep in the kernel."""
POLL_S = 0.05
LOCK_S = 0.5
"""Others who only look whether the lock is free have it for a moment."""


class Orphan(Struct, frozen=True, kw_only=True):
    """A process of a daemon that nobody supervises. `own`: it belongs to the state directory that was asked for."""

    pid: int
    name: str
    state_dir: str
    command: str
    own: bool


class Reaped(Struct, frozen=True, kw_only=True):
    """What `reap` did: what it ended, and what it saw and left alone."""

    ended: tuple[Orphan, ...]
    left: tuple[Orphan, ...]
    held: tuple[str, ...] = ()
    """Lock files of the state directory that are still held: by what could not be ended, or by processes that this
    system does not name."""


def orphans(ownership: Ownership, platform: Platform) -> list[Orphan]:
    """Every process of this user that bears a mark of ours, or holds a lock of this state directory, and has no
    supervisor."""
    found = []
    for process, orphan in _unsupervised(ownership, platform):
        process.close()
        found.append(orphan)
    return found


def reap(state: StateDir, platform: Platform) -> Reaped:
    """End what belongs to `state` and is supervised by nobody: SIGTERM, a grace, SIGKILL. While a supervisor runs
    there, only what is not of its daemons' present runs.

    Raises:
        StateDirError: somebody holds the directory who does not say what is supervised; nothing was ended.
    """
    lock = supervisor_lock(state.lock)
    try:
        running = find_supervisor(state, platform)
        if running is not None and running.process is not None:
            running.process.close()
        if running is not None and running.record is None:
            raise StateDirError(f"nothing was ended: {held(state, running)}; {end_holder(state)}")
        if state.daemons.is_dir() and running is None:
            # Nobody may start to adopt what we are about to end.
            lock.acquire(timeout=LOCK_S, poll_interval=POLL_S)
    except Timeout:
        raise StateDirError(f"nothing was ended: a supervisor is just starting in {state.path}; try again") from None
    except OSError as error:
        raise StateDirError(f"nothing was ended: cannot lock {state.lock}: {error.strerror}") from None
    ownership = Ownership(platform, state)
    mine: list[tuple[Process, Orphan]] = []
    try:
        for process, orphan in _unsupervised(ownership, platform, locked=lock.is_locked):
            if orphan.own:
                mine.append((process, orphan))
            else:
                process.close()
        alive = _end([process for process, _ in mine])
        still: list[Path] = []
        if lock.is_locked:
            still = [path for path in ownership.held_locks() if path != state.lock]
            for _, orphan in mine:
                if orphan.pid not in alive and state.daemon_lock(orphan.name) not in still:
                    state.daemon_record(orphan.name).unlink(missing_ok=True)
    finally:
        lock.release()
    return Reaped(
        ended=tuple(orphan for _, orphan in mine if orphan.pid not in alive),
        left=tuple(orphans(ownership, platform)),
        held=tuple(map(str, still)),
    )


def held(state: StateDir, supervisor: FoundSupervisor) -> str:
    """Who has a state directory, where its files do not tell."""
    return f"{state.path} is held by {supervisor}, and {supervisor.fault}"


def end_holder(state: StateDir) -> str:
    """What to do about that."""
    return f"stop it, with its daemons: down --state-dir {state.path}"


def _end(processes: list[Process]) -> set[int]:
    """End processes; the pids of those that cannot be ended."""
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        _signal(process, signal.SIGTERM)
        _signal(process, signal.SIGCONT)
    while alive := [process for process in processes if process.is_alive()]:
        if time.monotonic() > deadline + GIVE_UP_S:
            break
        if time.monotonic() > deadline:
            for process in alive:
                _signal(process, signal.SIGKILL)
        time.sleep(POLL_S)
    for process in processes:
        process.close()
    return {process.pid for process in alive}


def _signal(process: Process, signum: int) -> None:
    with contextlib.suppress(PermissionError):  # it has become another user's
        process.signal(signum)


def _unsupervised(
    ownership: Ownership, platform: Platform, *, locked: bool = False
) -> Iterator[tuple[Process, Orphan]]:
    """What has no supervisor; `locked` if it is the caller who holds the state directory. The caller closes the
    processes."""
    supervised: dict[str, set[str] | None] = {str(ownership.state_dir.path): set()} if locked else {}

    def tokens(state_dir: str) -> set[str] | None:
        """The runs that a living supervisor watches; None where one lives that does not say."""
        if state_dir not in supervised:
            supervised[state_dir] = _watched(StateDir(Path(state_dir)), platform)
        return supervised[state_dir]

    seen: set[int] = set()
    own = {process.pid: process for process, _ in ownership.marked()}
    for process, mark in platform.marked(lambda mark: True):
        mine = own.pop(process.pid, None)
        if mine is not None:
            mine.close()
        # Ours may have been started when this directory was elsewhere.
        where = str(ownership.state_dir.path) if mine is not None else mark.state_dir
        watched = tokens(where)
        if watched is None or mark.token in watched:
            process.close()
            continue
        seen.add(process.pid)
        yield process, _describe(platform, process, mark.name, where, own=mine is not None)
    for process in own.values():
        process.close()
    if tokens(str(ownership.state_dir.path)) != set():
        return  # what has lost its mark is its supervisor's to tell
    for path in sorted(ownership.state_dir.daemons.glob("*.lock")):
        if not is_name(path.stem):
            continue
        for process in ownership.lock_holders(path.stem):
            if process.pid in seen:
                process.close()
            else:
                yield process, _describe(platform, process, path.stem, str(ownership.state_dir.path), own=True)


def _watched(state: StateDir, platform: Platform) -> set[str] | None:
    try:
        supervisor = find_supervisor(state, platform)
    except OSError:
        return None
    if supervisor is None:
        return set()
    if supervisor.process is not None:
        supervisor.process.close()
    if supervisor.record is None:
        return None
    tokens = {supervisor.record.token}
    for path in state.daemons.glob("*.json"):
        with contextlib.suppress(DamagedRecord, OSError):
            record = records.read(path, DaemonRecord)
            if record is not None:
                tokens.add(record.token)
    return tokens


def _describe(platform: Platform, process: Process, name: str, state_dir: str, *, own: bool) -> Orphan:
    command = platform.describe(process.pid) or "ended"
    return Orphan(pid=process.pid, name=name, state_dir=state_dir, command=command, own=own)
