"""Find processes of daemons that no supervisor watches. `reaping` stops them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons import records
from neo_daemons.definitions import is_name
from neo_daemons.records import DaemonRecord, DamagedRecord
from neo_daemons.state_dir import StateDir

from .ownership import Ownership
from .platform import Mark, Platform, Process
from .presence import find_supervisor


class Orphan(Struct, frozen=True, kw_only=True):
    """A process of a daemon without a supervisor. `own`: it belongs to the state directory in question."""

    pid: int
    name: str
    state_dir: str
    command: str
    own: bool


def orphans(ownership: Ownership, platform: Platform) -> list[Orphan]:
    """Return each process of this user that carries a mark of ours, or holds a lock of this state directory, and has
    no supervisor."""
    found = []
    for process, orphan in unsupervised(ownership, platform):
        process.close()
        found.append(orphan)
    return found


def unsupervised(ownership: Ownership, platform: Platform, *, locked: bool = False) -> Iterator[tuple[Process, Orphan]]:
    """Yield the same orphans, each with its process, which the caller closes.

    Args:
        locked: the caller holds the lock of the state directory, so it has no supervisor.
    """
    supervised: dict[str, set[str] | None] = {str(ownership.state_dir.path): set()} if locked else {}

    def tokens(state_dir: str) -> set[str] | None:
        """Return the tokens of the runs that a supervisor watches; None if one runs but its runs are unknown."""
        if state_dir not in supervised:
            supervised[state_dir] = _watched(StateDir(Path(state_dir)), platform)
        return supervised[state_dir]

    def place(mark: Mark) -> str:
        """Return the state directory that a process belongs to. Our own may have been at another path when the process
        was started."""
        return str(ownership.state_dir.path) if ownership.owns_mark(mark) else mark.state_dir

    def is_unsupervised(mark: Mark) -> bool:
        """Whether to look at a process. The others are not even opened: there may be more of them than descriptors."""
        if mark.foreign and not ownership.owns_mark(mark):
            return False
        watched = tokens(place(mark))
        return watched is not None and mark.token not in watched

    seen: set[int] = set()
    own = {process.pid: process for process, _ in ownership.marked()}
    for process, mark in platform.marked(is_unsupervised):
        mine = own.pop(process.pid, None)
        if mine is not None:
            mine.close()
        seen.add(process.pid)
        yield process, _describe(platform, process, mark.name, place(mark), own=mine is not None)
    for process in own.values():
        process.close()
    if tokens(str(ownership.state_dir.path)) != set():
        return  # processes without a mark may belong to the supervisor
    for path in sorted(ownership.state_dir.daemons.glob("*.lock")):
        if not is_name(path.stem):
            continue
        for process in ownership.lock_holders(path.stem):
            if process.pid in seen:
                process.close()
            else:
                yield process, _describe(platform, process, path.stem, str(ownership.state_dir.path), own=True)


def _watched(state_dir: StateDir, platform: Platform) -> set[str] | None:
    """Return the tokens of the runs that a supervisor watches; None if one runs but its runs are unknown."""
    try:
        supervisor = find_supervisor(state_dir, platform)
    except OSError:
        return None
    if supervisor is None:
        return set()
    supervisor.close()
    if supervisor.record is None:
        return None
    tokens = {supervisor.record.token}
    for path in state_dir.daemons.glob("*.json"):
        with contextlib.suppress(DamagedRecord, OSError):
            record = records.read(path, DaemonRecord)
            if record is not None:
                tokens.add(record.token)
    return tokens


def _describe(platform: Platform, process: Process, name: str, state_dir: str, *, own: bool) -> Orphan:
    command = platform.describe(process.pid) or "exited"
    return Orphan(pid=process.pid, name=name, state_dir=state_dir, command=command, own=own)
