"""A look at a project from outside: what is installed, who has its ports and directories, what was left behind.

Read-only, but for `reap`, which ends what is provably this state directory's and supervised by nobody. That somebody
supervises is told by the lock: the record beside it may be damaged or deleted.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock, Timeout
from msgspec import Struct

from neo_daemons import records
from neo_daemons.definitions import Definition, Launch, Log, Unavailable
from neo_daemons.records import DaemonRecord, DamagedRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir, StateDirError

from .logs import LOST, DaemonLog
from .pidfile import find_living
from .platform import Mark, NotOurs, Platform, Process, Unverifiable
from .starting import DATA_LOCK

REAP_GRACE_S = 10.0
POLL_S = 0.05
LOCK_S = 0.5
"""Others who only look whether the lock is free have it for a moment."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `level`: ok, note, or problem."""

    level: str
    subject: str
    text: str
    remedy: str | None = None


class Orphan(Struct, frozen=True, kw_only=True):
    """A process of a daemon that nobody supervises."""

    pid: int
    name: str
    state_dir: str
    command: str


class Reaped(Struct, frozen=True, kw_only=True):
    """What `reap` did: what it ended, and what it saw and left alone."""

    ended: tuple[Orphan, ...]
    left: tuple[Orphan, ...]


def survey(
    definitions: Iterable[Definition],
    *,
    state: StateDir,
    platform: Platform,
    resolve: Callable[[Definition], Launch | Unavailable],
) -> list[Finding]:
    """Look at everything that matters to these daemons."""
    findings = [_supervisor(state, platform), *_directory(state)]
    for definition in definitions:
        findings += _installed(definition, resolve)
        findings += _ports(definition, state, platform)
        findings += _data(definition, platform)
    findings += _records(state, platform)
    for orphan in orphans(platform):
        own = orphan.state_dir == str(state.path)
        remedy = "serve adopts it if it can; reap ends it" if own else f"reap --state-dir {orphan.state_dir}"
        text = f"pid {orphan.pid} ({orphan.command}) of {orphan.state_dir} is supervised by nobody"
        findings.append(Finding(level="problem" if own else "note", subject=orphan.name, text=text, remedy=remedy))
    return findings


def running_supervisor(state: StateDir, platform: Platform) -> SupervisorRecord | None:
    """The supervisor of a state directory, if it is proven to live."""
    try:
        record = records.read(state.record, SupervisorRecord)
        process = platform.open(record.pid, record.identity) if record is not None else None
    except (DamagedRecord, OSError, NotOurs, Unverifiable):
        return None
    if process is None:
        return None
    process.close()
    return record


def orphans(platform: Platform) -> list[Orphan]:
    """Every process of this user that bears a mark of ours and has no supervisor."""
    found = []
    for process, mark in _unsupervised(platform):
        found.append(_describe(platform, process, mark))
        process.close()
    return found


def reap(state: StateDir, platform: Platform) -> Reaped:
    """End what bears the mark of `state` and is supervised by nobody: SIGTERM, a grace, SIGKILL. While a supervisor
    runs there, only what is not of its daemons' present runs.

    Raises:
        StateDirError: somebody holds the directory who does not say what he supervises; nothing was ended.
    """
    lock = FileLock(state.lock)
    if state.path.is_dir():
        running = running_supervisor(state, platform)
        try:
            # Nobody may start to adopt what we are about to end.
            lock.acquire(timeout=0 if running is not None else LOCK_S, poll_interval=POLL_S)
        except Timeout:
            if running is None and running_supervisor(state, platform) is None:
                raise StateDirError(f"nothing was ended: {_held(state, platform)}; {_end_holder(state)}") from None
        except OSError as error:
            raise StateDirError(f"nothing was ended: cannot lock {state.lock}: {error.strerror}") from None
    try:
        mine = [(p, m) for p, m in _unsupervised(platform) if m.state_dir == str(state.path)]
        ended = [_describe(platform, process, mark) for process, mark in mine]
        _end([process for process, _ in mine])
        if lock.is_locked:
            for orphan in ended:
                state.daemon_record(orphan.name).unlink(missing_ok=True)
    finally:
        lock.release()
    return Reaped(ended=tuple(ended), left=tuple(orphans(platform)))


def _lock_holders(state: StateDir, platform: Platform) -> list[str]:
    """Who has the state directory, whatever its record says; [] if nobody, or where the system does not say."""
    holders = platform.heirs(state.lock)
    for process in holders:
        process.close()
    return [f"pid {process.pid} ({platform.describe(process.pid)})" for process in holders]


def _held(state: StateDir, platform: Platform) -> str:
    holders = " and ".join(_lock_holders(state, platform)) or "a process that this system does not name"
    return f"{state.lock} is held by {holders}, and {state.record} {_fault(state)}"


def _fault(state: StateDir) -> str:
    try:
        record = records.read(state.record, SupervisorRecord)
    except DamagedRecord as error:
        return f"is damaged ({str(error).removeprefix(f'{state.record}: ')})"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "is missing" if record is None else f"names pid {record.pid}, which is not it"


def _end_holder(state: StateDir) -> str:
    return f"if it is the supervisor of {state.path}, SIGTERM to its pid stops it with its daemons"


def _end(processes: list[Process]) -> None:
    deadline = time.monotonic() + REAP_GRACE_S
    for process in processes:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
    while alive := [process for process in processes if process.is_alive()]:
        if time.monotonic() > deadline:
            for process in alive:
                process.signal(signal.SIGKILL)
        time.sleep(POLL_S)
    for process in processes:
        process.close()


def _unsupervised(platform: Platform) -> list[tuple[Process, Mark]]:
    supervised: dict[str, set[str] | None] = {}

    def tokens(state_dir: str) -> set[str] | None:
        """The runs that a living supervisor watches; None where one lives that does not say."""
        if state_dir not in supervised:
            state = StateDir(Path(state_dir))
            running = running_supervisor(state, platform)
            if running is not None:
                supervised[state_dir] = {*_tokens(state), running.token}
            else:
                supervised[state_dir] = None if _lock_holders(state, platform) else set()
        return supervised[state_dir]

    found = []
    for process, mark in platform.marked(lambda mark: True):
        watched = tokens(mark.state_dir)
        if watched is not None and mark.token not in watched:
            found.append((process, mark))
        else:
            process.close()
    return found


def _tokens(state: StateDir) -> frozenset[str]:
    tokens = set()
    for path in state.daemons.glob("*.json"):
        try:
            record = records.read(path, DaemonRecord)
        except (DamagedRecord, OSError):
            continue
        if record is not None:
            tokens.add(record.token)
    return frozenset(tokens)


def _describe(platform: Platform, process: Process, mark: Mark) -> Orphan:
    command = platform.describe(process.pid) or "ended"
    return Orphan(pid=process.pid, name=mark.name, state_dir=mark.state_dir, command=command)


def _supervisor(state: StateDir, platform: Platform) -> Finding:
    record = running_supervisor(state, platform)
    if record is not None:
        return Finding(level="ok", subject="supervisor", text=f"pid {record.pid}, version {record.version}")
    if _lock_holders(state, platform):
        return Finding(level="problem", subject="supervisor", text=_held(state, platform), remedy=_end_holder(state))
    if state.record.exists():
        text = f"none is running; {state.record} is left from one that was killed"
        return Finding(level="note", subject="supervisor", text=text, remedy="up starts one, which adopts what lives")
    return Finding(level="ok", subject="supervisor", text=f"none is running for {state.path}")


def _directory(state: StateDir) -> list[Finding]:
    if not state.path.exists():
        return [Finding(level="ok", subject="state dir", text=f"{state.path} will be made")]
    probe = state.logs / ".doctor.log"
    try:
        descriptor = DaemonLog(probe, Log()).open()
    except OSError as error:
        text = f"{state.path} cannot be written: {error.strerror}"
        return [Finding(level="problem", subject="state dir", text=text, remedy="choose another with --state-dir")]
    os.close(descriptor)
    lossless = DaemonLog(probe, Log()).is_lossless()
    probe.unlink(missing_ok=True)
    how = "lossless" if lossless else "by copy and truncate (this file system cannot cut off a file's front)"
    return [Finding(level="ok", subject="state dir", text=f"{state.path}; logs are rotated {how}")]


def _installed(definition: Definition, resolve: Callable[[Definition], Launch | Unavailable]) -> list[Finding]:
    if definition.external:
        return [Finding(level="ok", subject=definition.name, text=f"external: {definition.external}")]
    launch = resolve(definition)
    if isinstance(launch, Unavailable):
        return [Finding(level="problem", subject=definition.name, text=launch.reason, remedy=launch.remedy)]
    version = f" {launch.version}" if launch.version else ""
    program = launch.command[0]
    if not _is_there(program, definition, launch):
        remedy = f"install it, or correct daemons.{definition.name}.command"
        return [Finding(level="problem", subject=definition.name, text=f"{program} is not found", remedy=remedy)]
    findings = [Finding(level="ok", subject=definition.name, text=f"{program}{version}")]
    for provision in launch.provisions:
        there = Path(provision.target).is_dir()
        text = f"{provision.target} {'is there' if there else 'will be made at the first start'}"
        findings.append(Finding(level="ok", subject=definition.name, text=text))
    if launch.note:
        findings.append(Finding(level="note", subject=definition.name, text=launch.note))
    return findings


def _is_there(program: str, definition: Definition, launch: Launch) -> bool:
    """Whether the start will find it: from the daemon's own working directory, in its own PATH. What only the start
    can resolve is taken to be there."""
    path = {**os.environ, **launch.env, **definition.env}.get("PATH", os.defpath)
    if "$" in program or ("/" not in program and "$" in path):
        return True
    if "/" in program:
        return shutil.which(os.path.join(definition.cwd, program)) is not None
    directories = (os.path.join(definition.cwd, directory) for directory in path.split(os.pathsep))
    return shutil.which(program, path=os.pathsep.join(directories)) is not None


def _ports(definition: Definition, state: StateDir, platform: Platform) -> list[Finding]:
    findings = []
    for name, port in definition.ports.items():
        number = port.fixed or port.preferred
        try:
            if number is None or platform.port_is_free(definition.host, number):
                continue
        except OSError as error:
            remedy = f"correct daemons.{definition.name}.host or its port"
            text = f"cannot listen on {error.filename}: {error.strerror}"
            findings.append(Finding(level="problem", subject=definition.name, text=text, remedy=remedy))
            continue
        holder = platform.port_holder(number)
        mark = platform.mark_of(holder.pid) if holder is not None and holder.pid is not None else None
        if mark is not None and mark.name == definition.name and mark.state_dir == str(state.path):
            findings.append(Finding(level="ok", subject=definition.name, text=f"port {number} is its own"))
        elif port.fixed is not None:
            key = "port" if name == "main" else f"ports.{name}"
            findings.append(
                Finding(
                    level="problem",
                    subject=definition.name,
                    text=f"port {number} is held by {holder}",
                    remedy=f"stop it, or set daemons.{definition.name}.{key}",
                )
            )
        else:
            text = f"port {number} is held by {holder}; another one will be used"
            findings.append(Finding(level="note", subject=definition.name, text=text))
    return findings


def _data(definition: Definition, platform: Platform) -> list[Finding]:
    if definition.data_dir is None:
        return []
    heirs = platform.heirs(Path(definition.data_dir) / DATA_LOCK)
    holders = [f"pid {process.pid} ({platform.describe(process.pid)})" for process in heirs]
    for process in heirs:
        process.close()
    text = f"{definition.data_dir} is {'in use by ' + ', '.join(holders) if holders else 'free'}"
    return [Finding(level="ok", subject=definition.name, text=text)]


def _is_lost(record: DaemonRecord) -> bool:
    """Whether its process writes to a log that is no longer where it was."""
    try:
        return record.log_inode not in (None, os.stat(record.log_path).st_ino)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _records(state: StateDir, platform: Platform) -> list[Finding]:
    findings = []
    running = running_supervisor(state, platform) is not None
    for path in sorted(state.daemons.glob("*.json")):
        try:
            record = records.read(path, DaemonRecord)
            living, stranger = find_living(platform, record, state.path) if record is not None else (None, None)
        except (DamagedRecord, OSError) as error:
            findings.append(
                Finding(
                    level="problem",
                    subject=path.stem,
                    text=f"damaged record: {error}",
                    remedy="none needed: the next start sets it aside",
                )
            )
            continue
        except Unverifiable as error:
            findings.append(Finding(level="problem", subject=path.stem, text=str(error), remedy="end it by hand"))
            continue
        if living is not None:
            living.close()
            if record is not None and _is_lost(record):
                remedy = f"restart {record.name} to have a log again"
                text = f"{record.log_path} {LOST}"
                findings.append(Finding(level="problem", subject=record.name, text=text, remedy=remedy))
        elif not running:
            text = stranger or "stale record: its process is gone"
            findings.append(
                Finding(level="note", subject=path.stem, text=text, remedy="none needed: the next start clears it")
            )
    return findings
