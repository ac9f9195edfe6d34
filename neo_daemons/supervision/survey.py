"""The checks of ``doctor``: what is installed, which processes use the ports and directories of a project, and what was
left behind. Nothing is changed here; `reaping` stops leftovers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from neo_daemons import records
from neo_daemons.definitions import CannotRun, Definition, Launch, Log
from neo_daemons.locks import is_held
from neo_daemons.records import DaemonRecord, DamagedRecord, NewerRecord
from neo_daemons.references import escape, expand, names
from neo_daemons.state_dir import StateDir
from neo_daemons.urls import redacted

from .logs import LOST, DaemonLog
from .orphans import orphans
from .ownership import Ownership
from .platform import Platform, Unverifiable, platform_choice, programs
from .ports import UNIDENTIFIED
from .presence import FoundSupervisor, find_supervisor
from .provenance import Way, provenance
from .provision import try_now
from .slot import DATA_LOCK

Level = Literal["ok", "note", "problem"]


class Finding(Struct, frozen=True, kw_only=True):
    """One result of `survey`."""

    level: Level
    subject: str
    text: str
    remedy: str | None = None


def survey(
    definitions: Iterable[Definition],
    *,
    state_dir: StateDir,
    platform: Platform,
    resolve: Callable[[Definition], Launch | CannotRun],
    values: Mapping[str, str],
    env: Mapping[str, str],
) -> list[Finding]:
    """Check everything that matters to these daemons, from outside.

    Args:
        resolve, values, env: those of the `Supervisor` that would run them.
    """
    ownership = Ownership(platform, state_dir)
    supervisor = find_supervisor(state_dir, platform)
    own = supervisor.process.pid if supervisor is not None and supervisor.process is not None else None
    if supervisor is not None:
        supervisor.close()
    findings = [_supervisor(state_dir, supervisor), *_platform(), *_directory(state_dir)]
    for definition in definitions:
        findings += _installed(definition, resolve, values, env, platform)
        findings += _ports(definition, ownership, platform)
        findings += _data(definition, ownership, platform, own)
    findings += _records(ownership, supervised=supervisor is not None)
    for orphan in orphans(ownership, platform):
        remedy = StateDir(Path(orphan.state_dir)).command("reap")
        if orphan.own:
            remedy = f"`{state_dir.command('serve')}` adopts it if it can; `{state_dir.command('reap')}` stops it"
        text = f"pid {orphan.pid} ({orphan.command}) of {orphan.state_dir} has no supervisor"
        level: Level = "problem" if orphan.own else "note"
        findings.append(Finding(level=level, subject=orphan.name, text=text, remedy=remedy))
    return findings


def _supervisor(state_dir: StateDir, supervisor: FoundSupervisor | None) -> Finding:
    if supervisor is not None and supervisor.record is not None:
        record = supervisor.record
        return Finding(level="ok", subject="supervisor", text=f"pid {record.pid}, version {record.version}")
    if supervisor is not None:
        return Finding(level="problem", subject="supervisor", text=supervisor.problem, remedy=supervisor.remedy)
    if state_dir.record.exists():
        found = provenance(state_dir)
        if found is not None and found.way is not Way.MOVED:
            source = found.directory.path
            text = f"none is running; the files in {state_dir.path} were copied from {source} and are ignored"
            remedy = f"`{state_dir.command('up')}` starts one"
            return Finding(level="note", subject="supervisor", text=text, remedy=remedy)
        text = f"none is running; {state_dir.record} was left by a killed supervisor"
        remedy = f"`{state_dir.command('up')}` starts one, which adopts any daemons that are still running"
        return Finding(level="note", subject="supervisor", text=text, remedy=remedy)
    return Finding(level="ok", subject="supervisor", text=f"none is running for {state_dir.path}")


def _platform() -> list[Finding]:
    name, why = platform_choice()
    if why is None:
        return []
    is_told = name in ("linux", "darwin", "kqueue")
    how = "the kernel reports each exit" if is_told else "the exit of an adopted one is seen up to 0.1 s late"
    text = f"processes are seen by the fallback {name} ({why}): {how}"
    return [Finding(level="note", subject="platform", text=text)]


def _directory(state_dir: StateDir) -> list[Finding]:
    if not state_dir.path.exists():
        parent = next(parent for parent in state_dir.path.parents if parent.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            text = f"{state_dir.path} cannot be created: {parent} is not writable"
            return [Finding(level="problem", subject="state dir", text=text, remedy="choose another with --state-dir")]
        return [Finding(level="ok", subject="state dir", text=f"{state_dir.path} will be created")]
    probe = state_dir.logs / ".doctor.log"
    try:
        descriptor = DaemonLog(probe, Log()).open()
    except OSError as error:
        text = f"{state_dir.path} cannot be written: {error.strerror}"
        return [Finding(level="problem", subject="state dir", text=text, remedy="choose another with --state-dir")]
    os.close(descriptor)
    lossless = DaemonLog(probe, Log()).is_lossless()
    probe.unlink(missing_ok=True)
    how = "losslessly"
    if not lossless:
        how = "by copy-truncate, which can lose lines (this file system cannot remove the start of a file)"
    return [Finding(level="ok", subject="state dir", text=f"{state_dir.path}; logs are rotated {how}")]


def _installed(
    definition: Definition,
    resolve: Callable[[Definition], Launch | CannotRun],
    values: Mapping[str, str],
    env: Mapping[str, str],
    platform: Platform,
) -> list[Finding]:
    if definition.external:
        return [Finding(level="ok", subject=definition.name, text=f"external: {redacted(definition.external)}")]
    launch = resolve(definition)
    if isinstance(launch, CannotRun):
        return [Finding(level="problem", subject=definition.name, text=launch.reason, remedy=launch.remedy)]
    version = f" {launch.version}" if launch.version else ""
    known = {**values, "name": definition.name, "host": definition.host, "data_dir": definition.data_dir or ""}
    # References that are resolved only at the start (a port) are skipped.
    stated = {**{name: escape(text) for name, text in env.items()}, **launch.env, **definition.env}
    env = {name: expand(text, known) for name, text in stated.items() if known.keys() >= set(names(text))}
    program = launch.command[0]
    if not known.keys() >= set(names(program)) or (env.get("PATH") is None and "PATH" in stated):
        return [Finding(level="ok", subject=definition.name, text=f"{program}, resolved when it starts{version}")]
    program = expand(program, known)
    fault = programs.fault([program], env, definition.cwd)
    if fault is not None:
        remedy = f"fix that, or change daemons.{definition.name}.command"
        return [Finding(level="problem", subject=definition.name, text=fault, remedy=remedy)]
    found = programs.find(program, env, definition.cwd)
    findings = [Finding(level="ok", subject=definition.name, text=f"{found}{version}")]
    for provision in launch.provisions:
        if not Path(provision.target).is_dir():
            text = f"{provision.target} will be created at the first start: {provision.steps[0].title}"
            findings.append(Finding(level="ok", subject=definition.name, text=text))
        elif (broken := try_now(provision, platform, env, definition.cwd)) is None:
            findings.append(Finding(level="ok", subject=definition.name, text=f"{provision.target} works"))
        else:
            text, remedy = f"{provision.target} {broken}", "nothing to do: the next start checks and repairs it"
            findings.append(Finding(level="note", subject=definition.name, text=text, remedy=remedy))
    if launch.note:
        findings.append(Finding(level="note", subject=definition.name, text=launch.note))
    return findings


def _ports(definition: Definition, ownership: Ownership, platform: Platform) -> list[Finding]:
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
        if holder is not None and holder.pid is not None and ownership.owns(holder.pid, definition.name):
            text = f"port {number} is in use by this daemon"
            findings.append(Finding(level="ok", subject=definition.name, text=text))
        elif port.fixed is not None:
            key = "port" if name == "main" else f"ports.{name}"
            findings.append(
                Finding(
                    level="problem",
                    subject=definition.name,
                    text=f"port {number} is held by {holder or UNIDENTIFIED}",
                    remedy=f"stop it, or set daemons.{definition.name}.{key}",
                )
            )
        else:
            text = f"port {number} is held by {holder or UNIDENTIFIED}; another one will be used"
            findings.append(Finding(level="note", subject=definition.name, text=text))
    return findings


def _data(
    definition: Definition, ownership: Ownership, platform: Platform, supervisor_pid: int | None
) -> list[Finding]:
    if definition.data_dir is None:
        return []
    name, lock = definition.name, Path(definition.data_dir) / DATA_LOCK
    found = platform.lock_holders(lock)
    if found is None:
        text = f"{definition.data_dir} is {'in use; this system does not tell by whom' if is_held(lock) else 'free'}"
        return [Finding(level="ok", subject=name, text=text)]
    pids = [process.pid for process in found]
    for process in found:
        process.close()
    others = [pid for pid in pids if pid != supervisor_pid and not ownership.owns(pid, name)]
    if not others:
        text = f"{definition.data_dir} is {'in use by this daemon' if pids else 'free'}"
        return [Finding(level="ok", subject=name, text=text)]
    holders = ", ".join(f"pid {pid} ({platform.describe(pid)})" for pid in others)
    text, remedy = f"{definition.data_dir} is in use by {holders}", f"stop it, or set daemons.{name}.data_dir"
    return [Finding(level="problem", subject=name, text=text, remedy=remedy)]


def _is_lost(record: DaemonRecord) -> bool:
    """Whether a daemon writes to a log that was deleted or moved."""
    try:
        return record.log_inode not in (None, os.stat(record.log_path).st_ino)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _records(ownership: Ownership, *, supervised: bool) -> list[Finding]:
    findings = []
    for path in sorted(ownership.state_dir.daemons.glob("*.json")):
        try:
            record = records.read(path, DaemonRecord)
            living, stranger = ownership.find_living(record) if record is not None else (None, None)
        except NewerRecord as error:
            remedy = "use that version, or stop the daemon: neo-daemons down"
            findings.append(Finding(level="problem", subject=path.stem, text=str(error), remedy=remedy))
            continue
        except (DamagedRecord, OSError) as error:
            findings.append(
                Finding(
                    level="problem",
                    subject=path.stem,
                    text=f"damaged record: {error}",
                    remedy="nothing to do: the next start moves it aside",
                )
            )
            continue
        except Unverifiable as error:
            findings.append(Finding(level="problem", subject=path.stem, text=str(error), remedy="stop it yourself"))
            continue
        if living is not None:
            living.close()
            if record is not None and _is_lost(record):
                remedy = f"restart {record.name} to get a new log"
                text = f"{record.log_path} {LOST}"
                findings.append(Finding(level="problem", subject=record.name, text=text, remedy=remedy))
        elif not supervised:
            text = stranger or "stale record: its process is gone"
            findings.append(
                Finding(level="note", subject=path.stem, text=text, remedy="nothing to do: the next start removes it")
            )
    return findings
