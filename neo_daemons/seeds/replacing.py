"""Puts a directory in the place of a data directory. A kill at any step loses neither, and `finish` tells them apart.

The new directory gets a mark, then a name of its own beside the data directory, then its place. Where the system cannot
exchange two directories, there is a moment without a data directory.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from pathlib import Path

from neo_daemons.files import exchange

from .manifest import RESTORED, SeedError, entries

MOMENT = r"\d{8}T\d{6}Z-[0-9a-f]{4}"


def stamp() -> str:
    """Return the time in UTC, for the name of a file."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def replace(data_dir: Path, new: Path) -> Path | None:
    """Put `new`, which is beside the data directory, in its place. Return where the old data is now; None if there was
    none.

    Raises:
        OSError: it cannot be done; the data directory is as it was.
    """
    moment = f"{stamp()}-{os.urandom(2).hex()}"
    ready, before = _ready(data_dir, moment), _before(data_dir, moment)
    was_empty = not any(entries(data_dir))
    owner = data_dir.stat()
    (new / RESTORED).touch()
    _give(new, owner)
    new.rename(ready)
    try:
        if not exchange(data_dir, ready):
            data_dir.rename(before)
            try:
                ready.rename(data_dir)
            except OSError:
                before.rename(data_dir)
                raise
    except OSError:
        _discard(data_dir, ready)
        raise
    _end(data_dir, ready, before)
    if was_empty:
        shutil.rmtree(before, ignore_errors=True)
        return None
    return before


def _give(new: Path, owner: os.stat_result) -> None:
    """Give a tree to the owner of the data directory, which may be another user if we are root."""
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    # By descriptor, and its top last: the owner could put links into what is theirs already, and get what those name.
    for _, directories, names, descriptor in os.fwalk(new, topdown=False):
        for name in (*directories, *names):
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(new, owner.st_uid, owner.st_gid, follow_symlinks=False)


def finish(data_dir: Path) -> None:
    """Finish or undo what a killed `replace` has begun. Only one process may be at it.

    Raises:
        OSError: a directory cannot be renamed.
        SeedError: the data directory was created anew meanwhile, so nobody can tell which data is wanted.
    """
    prefix = _ready(data_dir, "").name
    for ready in list(data_dir.parent.glob(f"{glob.escape(prefix)}*")):
        match = re.fullmatch(MOMENT, ready.name.removeprefix(prefix))
        if match is None:
            continue
        before = _before(data_dir, match[0])
        if not (ready / RESTORED).exists():  # it is the old data
            _end(data_dir, ready, before)
        elif not data_dir.exists():
            ready.rename(data_dir)
        elif before.exists():
            raise SeedError(
                f"a restore of {data_dir} was killed, and the directory was created again since: the restored data is "
                f"in {ready}, the data before in {before}; move the one you want to {data_dir}, and remove the other"
            )
        else:  # nothing had changed places yet
            _discard(data_dir, ready)
    _unmark(data_dir)


def obstacle(data_dir: Path) -> str | None:
    """Return why another directory cannot take the place of this one and what to do, or None."""
    if is_mount(data_dir):
        return f"{data_dir} is a mount point, so no other directory can take its place; keep the data in one below it"
    if not is_writable(data_dir.parent):
        return f"{data_dir.parent} cannot be written, so no other directory can take the place of {data_dir}"
    return None


def is_writable(directory: Path) -> bool:
    """Return whether this process can create and rename what is in a directory."""
    return os.access(directory, os.W_OK | os.X_OK)


def is_mount(directory: Path) -> bool:
    """Return whether a file system, or a directory from elsewhere (a bind mount), is mounted there."""
    if os.path.ismount(directory):
        return True
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    # proc(5): the fifth field, with octal escapes.
    points = (line.split()[4] for line in mounts)
    return str(directory) in (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), one) for one in points)


def _end(data_dir: Path, ready: Path, before: Path) -> None:
    if ready.exists():  # with the old data, after an exchange
        ready.rename(before)
    _unmark(data_dir)


def _unmark(data_dir: Path) -> None:
    if (data_dir / RESTORED).exists():  # its file system may be read-only
        (data_dir / RESTORED).unlink()


def aside(directory: Path, name: str, what: str, suffix: str | None = None) -> Path:
    """Return a new hidden name for what may be deleted if this process is killed."""
    return directory / f".{name}.{what}-{suffix or os.urandom(4).hex()}.partial"


def sweep(directory: Path, name: str) -> None:
    """Delete what killed processes have left under names by `aside`."""
    for what in ("snapshot", "restore"):
        for left in directory.glob(aside(Path(), glob.escape(name), what, "[0-9a-f]" * 8).name):
            shutil.rmtree(left, ignore_errors=True)


def _discard(data_dir: Path, ready: Path) -> None:
    gone = aside(data_dir.parent, data_dir.name, "restore")
    ready.rename(gone)  # first: half deleted, it could be taken for the old data
    shutil.rmtree(gone, ignore_errors=True)


def _ready(data_dir: Path, moment: str) -> Path:
    return data_dir.with_name(f".{data_dir.name}.restored-{moment}")


def _before(data_dir: Path, moment: str) -> Path:
    return data_dir.with_name(f"{data_dir.name}.before-{moment}")
