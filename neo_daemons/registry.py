"""The registry of a user's supervisors: what is production on this machine. Test processes read it; see the fence.

Each supervisor of `serve` or `up` has an entry: a JSON file, and a lock file that it keeps locked for life. The kernel
frees the lock when the process dies, however it does. What is then left of an entry are the daemons that still run.
A process that finds an entry of which nothing is alive removes it, unless it was made on another machine.

A test may change HOME, XDG_* and TMPDIR, so the directory depends on none of them.
"""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from . import files, locks, processes, records
from .definitions import PortNumber
from .records import DaemonRecord, DamagedRecord, Unseen
from .state_dir import StateDir
from .unpatched import Unpatched

VARIABLE = "NEO_DAEMONS_REGISTRY"
"""The environment variable with another directory, for the tests of programs that run supervisors of their own."""
MAX_BYTES = 16_000_000
LOCK = r"\d+-[0-9a-f]+\.lock"
LEFT_S = 60.0
"""What a supervisor that was killed while it registered has left is removed after this long."""
ELSEWHERE_S = 30 * 86_400.0
"""An entry of another machine is removed after this long, if it is not locked: its container may be gone."""


class Registered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is registered of one daemon."""

    name: str
    host: str = ""
    """The address at which it listens."""
    ports: dict[str, PortNumber] = {}
    """Its ports by name; none while it is stopped, parked or cannot run: another program may use them then."""
    data_dir: str | None = None
    database: str | None = None
    """A file with its data elsewhere."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is registered of one supervisor."""

    state_dir: str
    pid: int
    machine: str = field(default_factory=processes.machine)
    """Where it runs. Machines and containers may share the home directory, and so the registry, but not their ports."""
    config: str | None = None
    """Its configuration file."""
    socket: str | None = None
    """The socket of its control API."""
    control: tuple[str, PortNumber] | None = None
    """Host and port of its control API, if it is served over TCP."""
    daemons: tuple[Registered, ...] = ()


class RegistryError(Exception):
    """The registry cannot be used; ``str()`` says why."""


def directories() -> tuple[Path, ...]:
    """Return where entries may be, the preferred place first. A supervisor uses the first one that it can use; all of
    them are read."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return (Path(stated),)
    fallback = Path("/var/tmp") / f"neo-daemons-{Unpatched.geteuid()}"  # noqa: S108 - made private
    import pwd

    try:
        home = Path(pwd.getpwuid(Unpatched.geteuid()).pw_dir)
    except KeyError:
        return (fallback,)
    return (home / ".local" / "state" / "neo-daemons" / "supervisors", fallback)


def is_private(directory: Path) -> bool:
    """Return whether a directory exists and only this user can change it; False also if it cannot be examined."""
    try:
        found = Unpatched.lstat(str(directory))
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == Unpatched.geteuid() and not found.st_mode & 0o022


def stamp(places: tuple[Path, ...]) -> tuple[int, ...]:
    """Return numbers that differ after an entry was added, rewritten or removed."""
    return tuple(map(_changed_at, map(str, places)))


def _changed_at(place: str) -> int:
    try:
        return Unpatched.stat(place).st_mtime_ns
    except OSError:
        return 0


def entries(places: tuple[Path, ...] | None = None) -> list[Entry]:
    """Return the entries of all living supervisors, and those of dead ones with the daemons that still run; remove the
    others. An entry that cannot be read is left out: it is about to be written, or a later version's.

    A supervisor of another machine is included, without its ports, if its state directory is here too.
    """
    found = []
    for place in directories() if places is None else places:
        if is_private(place):
            with contextlib.suppress(OSError):
                names = sorted(name for name in Unpatched.listdir(str(place)) if re.fullmatch(LOCK, name))
                found += [entry for name in names if (entry := _living(place / name)) is not None]
    return found


def supervisor_of(state_dir: Path) -> int | None:
    """Return the pid of the running supervisor that has registered a state directory, which may be deleted by now; None
    if none is seen. Its lock proves that it is running, since only that process has it open."""
    for place in filter(is_private, directories()):
        for lock in place.glob("*.lock"):
            entry = _read(lock.with_suffix(".json"))
            if entry is not None and entry.state_dir == str(state_dir) and entry.machine == processes.machine():
                with contextlib.suppress(OSError):
                    if locks.is_held(lock):
                        return entry.pid
    return None


def _living(lock: Path) -> Entry | None:
    """Return what lives of an entry, and remove it if nothing does."""
    try:
        is_held = locks.is_held(lock)
    except OSError:
        is_held = True  # unknown does not mean dead
    entry = _read(lock.with_suffix(".json"))
    if entry is not None and entry.machine != processes.machine():
        return _without_ports(entry) if _is_supervised(entry.state_dir) else None
    if is_held:
        return entry
    if entry is not None:
        survivors = tuple(daemon for daemon in entry.daemons if _is_running(entry.state_dir, daemon.name))
        entry = replace(entry, socket=None, control=None, daemons=survivors)
    if entry is None or not entry.daemons:
        _remove(lock)
        return None
    return entry


def _without_ports(entry: Entry) -> Entry:
    return replace(entry, control=None, daemons=tuple(replace(daemon, ports={}) for daemon in entry.daemons))


def _is_supervised(state_dir: str) -> bool:
    """Return whether a supervisor has a state directory, as seen from here: its lock proves that it is the same one."""
    try:
        return locks.is_held(StateDir(Path(state_dir)).lock)
    except OSError:
        return False


def _is_running(state_dir: str, name: str) -> bool:
    """Return whether a process of a daemon is running. It needs no supervisor."""
    state = StateDir(Path(state_dir))
    with contextlib.suppress(OSError):
        if locks.is_held(state.daemon_lock(name)):
            return True
    # Some programs close the descriptors that they inherit, and with them the lock.
    try:
        record = records.read(state.daemon_record(name), DaemonRecord)
        if record is None or record.pid is None or record.identity is None or records.origin(record, state.path):
            return False
        found = processes.identify(record.pid)
        return found is not None and found.matches(record.identity)
    except (OSError, DamagedRecord):
        return False
    except Unseen:
        return True  # unknown does not mean dead


def _read(path: Path) -> Entry | None:
    try:
        return msgspec.json.decode(files.read_regular(path, MAX_BYTES), type=Entry)
    except (OSError, ValueError):  # a DecodeError is one
        return None


def _remove(lock: Path) -> None:
    """Remove an entry if nobody holds its lock. No lock is taken twice: each registration makes its own file."""
    with contextlib.suppress(OSError):
        descriptor = Unpatched.open(str(lock), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            Unpatched.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_suffix(".json").unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        finally:
            Unpatched.close(descriptor)


class Registration:
    """The entry of this process, from the first `write` to `close`."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._lock: Path | None = None
        self._written: tuple[int, ...] | None = None
        """The version of the file that was written."""

    def write(self, entry: Entry) -> None:
        """Write the entry, in the first directory that can be used.

        Raises:
            RegistryError: there is none; it names each, and why it cannot be used.
        """
        if self._lock is not None and self._is_locked(self._lock):
            with contextlib.suppress(OSError):
                self._write(self._lock, entry)
                return
        self.close()
        faults = []
        for place in directories():
            try:
                self._begin(place, entry)
            except OSError as error:
                faults.append(f"{place}: {error.strerror}")
            else:
                return
        raise RegistryError("; ".join(faults))

    def _begin(self, place: Path, entry: Entry) -> None:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(place):
            raise PermissionError(1, "it is not a directory that only this user can write to")
        _tidy(entry.state_dir)
        lock = place / f"{entry.pid}-{Unpatched.urandom(6).hex()}.lock"
        # Locked before it gets its name: nobody ever sees the lock of a living supervisor free.
        unnamed = lock.with_name(f".{lock.name}.tmp")
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            Unpatched.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(lock, entry)
            os.replace(unnamed, lock)
        except BaseException:
            os.close(descriptor)
            for path in (unnamed, lock, lock.with_suffix(".json")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        self._descriptor, self._lock = descriptor, lock

    def _write(self, lock: Path, entry: Entry) -> None:
        path = lock.with_suffix(".json")
        files.write_struct(path, entry)
        found = os.stat(path)
        self._written = _version(found)

    def is_whole(self) -> bool:
        """Return whether the entry is as it was written. False before the first `write`."""
        if self._lock is None:
            return False
        try:
            found = os.stat(self._lock.with_suffix(".json"))
        except OSError:
            return False
        return _version(found) == self._written and self._is_locked(self._lock)

    def _is_locked(self, lock: Path) -> bool:
        """Return whether the lock is still at its path."""
        try:
            return os.path.samestat(os.stat(lock), os.fstat(self._descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """End the registration: the entry is removed, unless daemons go on running without us."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        is_locked = self._is_locked(lock)
        os.close(self._descriptor)
        self._descriptor = -1
        if is_locked:
            _living(lock)
        else:
            with contextlib.suppress(OSError):
                lock.with_suffix(".json").unlink(missing_ok=True)


def _version(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _tidy(state_dir: str) -> None:
    """Remove what dead supervisors have left, and of the one before us what it knew: its daemons are ours now."""
    for place in filter(is_private, directories()):
        for path in place.glob("*.lock"):
            entry = _living(path)
            if (entry is not None and entry.state_dir == state_dir) or _age_s(path.with_suffix(".json")) > ELSEWHERE_S:
                _remove(path)
        for path in _incomplete(place):
            if _age_s(path) > LEFT_S:
                with contextlib.suppress(OSError):
                    path.unlink()


def _age_s(path: Path) -> float:
    """Return how long ago a file was written; 0.0 if there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _incomplete(place: Path) -> Iterator[Path]:
    yield from place.glob(".*.tmp")
    for path in place.glob("*.json"):
        if not path.with_suffix(".lock").exists():
            yield path
