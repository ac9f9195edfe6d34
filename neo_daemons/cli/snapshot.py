"""``snapshot`` and ``restore``: the data of a daemon as one file."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client, NoSupervisor
from neo_daemons.seeds import archive, copying, counts, manifest, replacing
from neo_daemons.seeds.manifest import Manifest, SeedError
from neo_daemons.similar import among
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.slot import DATA_LOCK

from . import display
from .codes import DONE, FAILED
from .streams import complain

DIRECTORY = "snapshots"
"""In the state directory."""
STOP_S = 60.0
"""How long to wait at least for the daemon to stop: nothing can be done before."""
DOWN = ("idle", "stopped", "parked", "unavailable", "held")
"""States without a process."""


class Subject(Struct, frozen=True):
    """The daemon whose data is copied or replaced."""

    name: str
    state: StateDir
    client: Client | None
    """None if no supervisor runs."""
    state_text: str
    """Its state, for people."""
    is_up: bool
    """Whether it has to be stopped, and is started again."""
    data_dir: Path
    program: str | None
    """The version of its program, if known."""

    @property
    def snapshots(self) -> Path:
        """Where its snapshots are kept by default."""
        return self.state.path / DIRECTORY


def run(options: argparse.Namespace) -> int:
    """Make or restore a snapshot."""
    state = find_state_dir(options.state_dir, file=options.config)
    try:
        subject = _find(options, state)
        with _alone(subject):
            if options.command == "snapshot":
                return _snapshot(subject, options)
            return _restore(subject, options)
    except SeedError as error:
        return complain(display.clean(str(error)), FAILED)


def _find(options: argparse.Namespace, state: StateDir) -> Subject:
    name, client = options.name, Client(state, patience_s=REMADE_S)
    try:
        daemons = {daemon.name: daemon for daemon in client.status().daemons}
    except NoSupervisor:
        return _configured(options, state)
    if name not in daemons:
        raise SeedError(f"unknown daemon {name!r}; configured daemons: {among(name, daemons)}")
    daemon = daemons[name]
    data_dir = _data_dir(name, daemon.data_dir, external=daemon.state == "external")
    # A restore may be just what a parked daemon needs.
    is_up = daemon.state not in DOWN or (daemon.state == "parked" and options.command == "restore")
    return Subject(name, state, client, display.state(daemon), is_up, data_dir, daemon.version)


def _configured(options: argparse.Namespace, state: StateDir) -> Subject:
    from neo_daemons.config.configuration import load

    found = load(options.config, state_dir=options.state_dir)
    definitions = {definition.name: definition for definition in found.definitions}
    if options.name not in definitions:
        raise SeedError(f"unknown daemon {options.name!r}; configured daemons: {among(options.name, definitions)}")
    definition = definitions[options.name]
    data_dir = _data_dir(options.name, definition.data_dir, external=definition.external is not None)
    return Subject(options.name, state, None, "down", False, data_dir, None)


def _data_dir(name: str, stated: str | None, *, external: bool) -> Path:
    if external:
        raise SeedError(f"{name} is external: its data is not here")
    if stated is None:
        raise SeedError(f"{name} has no data directory; set daemons.{name}.data_dir")
    return Path(stated)


@contextlib.contextmanager
def _alone(subject: Subject) -> Iterator[None]:
    """Keep other snapshots and restores of the daemon out, and finish or remove what killed ones left."""
    try:
        subject.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = current_platform().lock(subject.snapshots / f".{subject.name}.lock")
    except OSError as error:
        raise SeedError(f"cannot write {subject.snapshots}: {error.strerror}") from None
    if lock is None:
        raise SeedError(f"another snapshot or restore of {subject.name} is under way; wait for it")
    try:
        replacing.finish(subject.data_dir)
        replacing.sweep(subject.data_dir.parent, subject.data_dir.name)
        replacing.sweep(subject.snapshots, subject.name)
        archive.sweep(subject.snapshots)
        yield
    except OSError as error:
        raise SeedError(manifest.explain(error, subject.data_dir)) from None
    finally:
        lock.release()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name what was being written in errors that name no file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextlib.contextmanager
def _at_rest(subject: Subject, wait_s: float) -> Iterator[list[str]]:
    """Stop the daemon, keep it stopped, and start it again if it was up. Yield a list, which then says why it did not
    start, if so."""
    client, name, failed = subject.client, subject.name, list[str]()
    try:
        if client is not None and subject.is_up:
            print(f"stopping {name}", flush=True)
            client.order(name, "stop", wait_s=max(wait_s, STOP_S))
        subject.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _unused(subject):
            yield failed
    finally:
        if client is not None and subject.is_up:
            daemon = client.order(name, "start", wait_s=wait_s)
            print(f"started {name}: {display.state(daemon)}", flush=True)
            if wait_s and not daemon.ready:
                failed.append(f"{name} is not ready; see: {subject.state.command(f'why {name}')}")


@contextlib.contextmanager
def _unused(subject: Subject) -> Iterator[None]:
    """Hold the lock of the data directory, which no process of the daemon uses any more."""
    path, used = subject.data_dir / DATA_LOCK, f"{subject.data_dir} is in use by"
    stop = subject.state.command(f"stop {subject.name}" if subject.client is not None else "reap")
    # The daemon's processes hold it, too: even those of a supervisor that was killed.
    lock = current_platform().lock(path, f"neo-daemons snapshot or restore, pid {os.getpid()}\n")
    if lock is None:
        holder = path.read_text(errors="replace").strip()[:300]
        is_ours = holder == f"daemon {subject.name} of {subject.state.path}"
        raise SeedError(f"{used} {holder}; stop it{f': {stop}' if is_ours else ''}")
    try:
        pid = _survivor(subject) if subject.client is None else None
        if pid is not None:
            raise SeedError(f"{used} {subject.name}, pid {pid}; stop it: {stop}")
        yield
    finally:
        lock.release()


def _survivor(subject: Subject) -> int | None:
    """Return a process of the daemon that its supervisor has left running. The lock does not tell of a program that
    closes the descriptors which it inherits."""
    from neo_daemons.supervision.orphans import orphans
    from neo_daemons.supervision.ownership import Ownership

    platform = current_platform()
    found = orphans(Ownership(platform, subject.state), platform)
    return next((one.pid for one in found if one.own and one.name == subject.name), None)


# Snapshot


def _snapshot(subject: Subject, options: argparse.Namespace) -> int:
    file = options.file.absolute() if options.file is not None else None
    path = file or subject.snapshots / f"{subject.name}-{replacing.stamp()}{archive.SUFFIX}"
    _check_target(path)
    archive.sweep(path.parent)
    _check_source(subject, options)
    before = _newest(subject, {path.parent, subject.snapshots})
    if before is not None and not options.force:
        _check_counts(subject, before, counts.in_own_terms(subject.data_dir))  # at rest again: it may still be written
    aside = _place(subject)
    try:
        with _at_rest(subject, options.wait) as failed, _writing(aside):
            copying.copy_tree(subject.data_dir, aside)
            mode = stat.S_IMODE(subject.data_dir.stat().st_mode)
        contents = manifest.describe(aside)
        if not contents.files and not options.force:
            raise _no_data(subject)
        found = Manifest(
            name=subject.name,
            daemon=subject.name,
            files=contents.files,
            directories=contents.directories,
            links=contents.links,
            mode=mode,
            counts=counts.at_rest(aside, contents.files),
            program=subject.program,
            data_dir=str(subject.data_dir),
            made_at=time.time(),
        )
        if before is not None and not options.force:
            _check_counts(subject, before, found.counts)
        with _writing(path):
            archive.pack(aside, found, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"{path}: {counts.text(found.counts)}; {found.size / 1e6:.1f} MB, packed {path.stat().st_size / 1e6:.1f} MB")
    if before is not None:
        print(f"before: {_said(before)}")
    return complain(failed[0], FAILED) if failed else DONE


def _check_target(path: Path) -> None:
    if path.exists():
        raise SeedError(f"{path} exists; choose another name, or remove it")
    if not path.parent.is_dir():
        raise SeedError(f"{path.parent} is not a directory; create it first")
    if not replacing.is_writable(path.parent):
        raise SeedError(f"{path.parent} cannot be written; choose another directory, or check its owner")


def _check_source(subject: Subject, options: argparse.Namespace) -> None:
    """Refuse what cannot be described, before the daemon is stopped and a directory is created."""
    is_there = subject.data_dir.is_dir()
    has_files = is_there and manifest.check(subject.data_dir)
    if not subject.is_up and not (has_files or (is_there and options.force)):
        raise _no_data(subject)


def _no_data(subject: Subject) -> SeedError:
    if not subject.data_dir.is_dir():
        return SeedError(f"{subject.name} has no data: {subject.data_dir} is missing")
    return SeedError(
        f"{subject.name} has no data: {subject.data_dir} is empty; if that is right, run this again with --force"
    )


def _check_counts(subject: Subject, before: tuple[Path, Manifest], now: dict[str, int]) -> None:
    """Refuse what has lost more than half: it must not become the newest snapshot unnoticed."""
    fallen = counts.fallen(before[1].counts, now)
    if fallen:
        raise SeedError(
            f"{subject.name} now has {counts.text(now)}, but {_said(before)}: {' and '.join(fallen)} fell by more than "
            "half; if that is right, run this again with --force"
        )


def _said(before: tuple[Path, Manifest]) -> str:
    return f"{counts.text(before[1].counts)} in the snapshot before, {before[0]}"


def _place(subject: Subject) -> Path:
    """Return where the data is copied to: beside the data directory, so on the same file system and perhaps by
    reflinks; else with the snapshots."""
    data_dir = subject.data_dir
    if replacing.is_writable(data_dir.parent) and not replacing.is_mount(data_dir):
        return replacing.aside(data_dir.parent, data_dir.name, "snapshot")
    return replacing.aside(subject.snapshots, subject.name, "snapshot")


def _newest(subject: Subject, directories: set[Path]) -> tuple[Path, Manifest] | None:
    """Return the latest snapshot of the same data in these directories."""
    found = []
    for path in {path for directory in directories for path in directory.glob(f"*{archive.SUFFIX}")}:
        with contextlib.suppress(SeedError, OSError):  # it is something else
            described = archive.read_manifest(path)
            if described.daemon == subject.name and described.data_dir == str(subject.data_dir):
                found.append((described.made_at, path, described))
    if not found:
        return None
    _, path, described = max(found, key=lambda one: one[:2])
    return path, described


# Restore


def _restore(subject: Subject, options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise SeedError(f"{options.file} is not a file")
    described = archive.read_manifest(options.file)
    if described.daemon != subject.name and not options.force:
        raise SeedError(
            f"{options.file} is a snapshot of {described.daemon}, not of {subject.name}; if that is right, run this "
            "again with --force"
        )
    if subject.program and described.program and subject.program != described.program:
        print(f"note: the snapshot was made with version {described.program}, and {subject.program} is installed")
    data_dir = subject.data_dir
    data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (obstacle := replacing.obstacle(data_dir)) is not None:
        raise SeedError(f"cannot restore {subject.name}: {obstacle}")
    aside = replacing.aside(data_dir.parent, data_dir.name, "restore")
    try:
        with _writing(aside):
            archive.unpack(options.file, aside)
        found = counts.at_rest(aside, described.files)
        if found.keys() == described.counts.keys() and found != described.counts:
            raise SeedError(
                f"{options.file} holds {counts.text(found)}, not {counts.text(described.counts)}; not restored"
            )
        with _at_rest(subject, options.wait) as failed:
            old = replacing.replace(data_dir, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"restored {subject.name} from {options.file}: {counts.text(found)}")
    if old is not None:
        print(f"the data before is in {old}; remove it when you do not need it")
    if subject.client is not None and not subject.is_up:
        start = subject.state.command(f"start {subject.name}")
        print(f"{subject.name} is {subject.state_text}, as before; start it: {start}")
    return complain(failed[0], FAILED) if failed else DONE
