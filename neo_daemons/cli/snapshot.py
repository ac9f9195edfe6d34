"""``snapshot`` and ``restore``: the data of a daemon as one file."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client, NoSupervisor
from neo_daemons.files import exchange
from neo_daemons.seeds import archive, copying, counts, manifest
from neo_daemons.seeds.manifest import Manifest, SeedError
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.slot import DATA_LOCK

from . import render
from .codes import DONE, FAILED
from .streams import complain

DIRECTORY = "snapshots"
"""In the state directory."""
STOP_S = 60.0
"""How long to wait at least for the daemon to stop: nothing can be done before."""
DOWN = ("stopped", "parked", "unavailable", "held")


class Subject(Struct, frozen=True):
    """The daemon whose data is copied or replaced."""

    name: str
    state: StateDir
    client: Client | None
    """None if no supervisor runs."""
    is_up: bool
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
        return complain(render.clean(str(error)), FAILED)


def _find(options: argparse.Namespace, state: StateDir) -> Subject:
    name, client = options.name, Client(state, patience_s=REMADE_S)
    try:
        daemons = {daemon.name: daemon for daemon in client.status().daemons}
    except NoSupervisor:
        return _configured(options, state)
    if name not in daemons:
        raise SeedError(f"unknown daemon {name!r}; configured daemons: {', '.join(sorted(daemons)) or 'none'}")
    daemon = daemons[name]
    data_dir = _data_dir(name, daemon.data_dir, external=daemon.state == "external")
    return Subject(name, state, client, daemon.state not in DOWN, data_dir, daemon.version)


def _configured(options: argparse.Namespace, state: StateDir) -> Subject:
    from neo_daemons.config.configuration import load

    found = load(options.config, state_dir=options.state_dir)
    definitions = {definition.name: definition for definition in found.definitions}
    if options.name not in definitions:
        raise SeedError(
            f"unknown daemon {options.name!r}; configured daemons: {', '.join(sorted(definitions)) or 'none'}"
        )
    definition = definitions[options.name]
    data_dir = _data_dir(options.name, definition.data_dir, external=definition.external is not None)
    return Subject(options.name, state, None, False, data_dir, None)


def _data_dir(name: str, stated: str | None, *, external: bool) -> Path:
    if external:
        raise SeedError(f"{name} is external: its data is not here")
    if stated is None:
        raise SeedError(f"{name} has no data directory; set daemons.{name}.data_dir")
    return Path(stated)


@contextlib.contextmanager
def _alone(subject: Subject) -> Iterator[None]:
    """Keep other snapshots and restores of the daemon out, and remove what killed ones left."""
    try:
        subject.snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = current_platform().lock(subject.snapshots / f".{subject.name}.lock")
    except OSError as error:
        raise SeedError(f"cannot write {subject.snapshots}: {error.strerror}") from None
    if lock is None:
        raise SeedError(f"another snapshot or restore of {subject.name} is under way; wait for it")
    try:
        for what in ("snapshot", "restore"):
            for left in subject.data_dir.parent.glob(_aside_name(subject, what, "[0-9a-f]" * 8)):
                shutil.rmtree(left, ignore_errors=True)
        yield
    except OSError as error:
        raise SeedError(
            f"{error.filename or subject.data_dir}: {error.strerror}; free space, or check who owns it"
        ) from None
    finally:
        lock.release()


@contextlib.contextmanager
def _at_rest(subject: Subject, wait_s: float) -> Iterator[list[str]]:
    """Stop the daemon, keep it stopped, and start it again if it was up. Yield a list, which then says why it did not
    start, if so."""
    client, name, failed = subject.client, subject.name, list[str]()
    if client is not None and subject.is_up:
        print(f"stopping {name}", flush=True)
        client.order(name, "stop", wait_s=max(wait_s, STOP_S))
    try:
        subject.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The daemon's processes hold it, too: even those of a supervisor that was killed.
        path = subject.data_dir / DATA_LOCK
        lock = current_platform().lock(path, f"neo-daemons snapshot or restore, pid {os.getpid()}\n")
        if lock is None:
            holder = path.read_text(errors="replace").strip()[:300]
            raise SeedError(f"{subject.data_dir} is in use by {holder}; stop it: {subject.state.command('down')}")
        try:
            yield failed
        finally:
            lock.release()
    finally:
        if client is not None and subject.is_up:
            daemon = client.order(name, "start", wait_s=wait_s)
            print(f"started {name}: {render.state(daemon)}", flush=True)
            if wait_s and not daemon.ready:
                failed.append(f"{name} is not ready; see: {subject.state.command(f'why {name}')}")


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _aside(subject: Subject, what: str) -> Path:
    """Return a name beside the data directory, so on the same file system."""
    return subject.data_dir.with_name(_aside_name(subject, what, os.urandom(4).hex()))


def _aside_name(subject: Subject, what: str, suffix: str) -> str:
    return f".{subject.data_dir.name}.{what}-{suffix}.partial"


# Snapshot


def _snapshot(subject: Subject, options: argparse.Namespace) -> int:
    file = options.file.absolute() if options.file is not None else None
    path = file or subject.snapshots / f"{subject.name}-{_stamp()}{archive.SUFFIX}"
    if path.exists():
        raise SeedError(f"{path} exists; choose another name, or remove it")
    if not path.parent.is_dir():
        raise SeedError(f"{path.parent} is not a directory; create it first")
    empty = SeedError(f"{subject.name} has no data: {subject.data_dir} is empty or missing")
    if not subject.is_up and not (subject.data_dir.is_dir() and any(manifest.entries(subject.data_dir))):
        raise empty  # before it is created
    before = _newest(subject, {path.parent, subject.snapshots})
    aside = _aside(subject, "snapshot")
    try:
        with _at_rest(subject, options.wait) as failed:
            copying.copy_tree(subject.data_dir, aside)
        contents = manifest.describe(aside)
        if not contents.files:
            raise empty
        found = Manifest(
            name=subject.name,
            daemon=subject.name,
            files=contents.files,
            directories=contents.directories,
            links=contents.links,
            counts=counts.at_rest(aside, contents.files),
            program=subject.program,
            made_at=time.time(),
        )
        if before is not None:
            said = f"{counts.text(before[1].counts)} in the snapshot before, {before[0]}"
            fallen = counts.fallen(before[1].counts, found.counts)
            if fallen and not options.force:
                raise SeedError(
                    f"{subject.name} now has {counts.text(found.counts)}, but {said}: {' and '.join(fallen)} fell by "
                    "more than half; if that is right, run this again with --force"
                )
        archive.pack(aside, found, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"{path}: {counts.text(found.counts)}; {found.size / 1e6:.1f} MB, packed {path.stat().st_size / 1e6:.1f} MB")
    if before is not None:
        print(f"before: {said}")
    return complain(failed[0], FAILED) if failed else DONE


def _newest(subject: Subject, directories: set[Path]) -> tuple[Path, Manifest] | None:
    """Return the latest snapshot of the daemon in these directories."""
    found = []
    for path in {path for directory in directories for path in directory.glob(f"*{archive.SUFFIX}")}:
        with contextlib.suppress(SeedError, OSError):  # it is something else
            described = archive.read_manifest(path)
            if described.daemon == subject.name:
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
    aside = _aside(subject, "restore")
    try:
        subject.data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        archive.unpack(options.file, aside)
        found = counts.at_rest(aside, manifest.describe(aside).files)
        if found.keys() == described.counts.keys() and found != described.counts:
            raise SeedError(
                f"{options.file} holds {counts.text(found)}, not {counts.text(described.counts)}; not restored"
            )
        with _at_rest(subject, options.wait) as failed:
            old = _replace(subject.data_dir, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(f"restored {subject.name} from {options.file}: {counts.text(found)}")
    if old is not None:
        print(f"the data before is in {old}; remove it when you do not need it")
    return complain(failed[0], FAILED) if failed else DONE


def _replace(data_dir: Path, new: Path) -> Path | None:
    """Put a directory in the place of the data directory. Return where the old data is now; None if there was none."""
    old = data_dir.with_name(f"{data_dir.name}.before-{_stamp()}-{os.urandom(2).hex()}")
    is_empty = not any(manifest.entries(data_dir))
    # The new data takes the name under which the old will be kept: a kill in between leaves both, under lasting names.
    new.rename(old)
    if not exchange(data_dir, old):
        old.rename(new)
        data_dir.rename(old)
        try:
            new.rename(data_dir)
        except OSError:
            old.rename(data_dir)
            raise
    if is_empty:
        shutil.rmtree(old, ignore_errors=True)
        return None
    return old
