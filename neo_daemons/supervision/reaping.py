"""Stop orphaned processes, but only those that provably belong to the state directory.

This module acts; `orphans` finds the processes, and `survey` only reports them.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

from filelock import Timeout
from msgspec import Struct

from neo_daemons.locks import supervisor_lock
from neo_daemons.state_dir import StateDir, StateDirError

from .orphans import Orphan, orphans, unsupervised
from .ownership import Ownership
from .platform import Platform, Process
from .presence import find_supervisor

GRACE_S = 10.0
GIVE_UP_S = 5.0
"""A process that outlives SIGKILL by this much is asleep in the kernel."""
POLL_S = 0.05
LOCK_S = 0.5
"""Longer than a process that only checks the lock holds it."""


class Reaped(Struct, frozen=True, kw_only=True):
    """What `reap` stopped, and what it found and left alone."""

    ended: tuple[Orphan, ...]
    left: tuple[Orphan, ...]
    held: tuple[str, ...] = ()
    """Lock files of the state directory that are still held, by processes that are unkillable or unidentified."""


def reap(state_dir: StateDir, platform: Platform) -> Reaped:
    """Stop the processes of `state_dir` that have no supervisor: SIGTERM, a grace period, SIGKILL. While a supervisor
    runs there, its daemons' current runs are spared.

    Raises:
        StateDirError: a supervisor whose files are unreadable holds the directory; nothing was stopped.
    """
    lock = supervisor_lock(state_dir.lock)
    try:
        running = find_supervisor(state_dir, platform)
        if running is not None:
            running.close()
            if running.record is None:
                raise StateDirError(f"nothing was stopped: {running.problem}; {running.remedy}")
        if state_dir.daemons.is_dir() and running is None:
            # No supervisor may start to adopt what we are about to stop.
            lock.acquire(timeout=LOCK_S, poll_interval=POLL_S)
    except Timeout:
        raise StateDirError(f"nothing was stopped: a supervisor is starting in {state_dir.path}; try again") from None
    except OSError as error:
        raise StateDirError(f"nothing was stopped: cannot lock {state_dir.lock}: {error.strerror}") from None
    ownership = Ownership(platform, state_dir)
    mine: list[tuple[Process, Orphan]] = []
    try:
        for process, orphan in unsupervised(ownership, platform, locked=lock.is_locked):
            if orphan.own:
                mine.append((process, orphan))
            else:
                process.close()
        alive = _end([process for process, _ in mine])
        still: list[Path] = []
        if lock.is_locked:
            still = [path for path in ownership.held_locks() if path != state_dir.lock]
            for _, orphan in mine:
                if orphan.pid not in alive and state_dir.daemon_lock(orphan.name) not in still:
                    state_dir.daemon_record(orphan.name).unlink(missing_ok=True)
    finally:
        lock.release()
    return Reaped(
        ended=tuple(orphan for _, orphan in mine if orphan.pid not in alive),
        left=tuple(orphans(ownership, platform)),
        held=tuple(map(str, still)),
    )


def _end(processes: list[Process]) -> set[int]:
    """Stop processes. Returns the pids of those that cannot be stopped."""
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
    with contextlib.suppress(PermissionError):  # it now belongs to another user
        process.signal(signum)
