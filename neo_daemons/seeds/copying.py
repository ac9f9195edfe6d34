"""Clones directories: by reflinks where the file system can (Btrfs, XFS, bcachefs), by copying elsewhere."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Literal

from neo_daemons.unpatched import Unpatched

from .manifest import entries

FICLONE = 0x40049409
"""ioctl(2): share the blocks of another file. <linux/fs.h>"""
CHUNK = 1 << 20
How = Literal["reflink", "copy"]
"""How a directory was cloned."""


def copy_tree(source: Path, target: Path) -> How:
    """Copy a directory to a new one, with permissions and times. Say how: reflinks share all blocks until one side
    changes them.

    Raises:
        OSError: a file cannot be copied; what was copied so far remains.
    """
    target.mkdir(mode=0o700)
    how: How = "reflink"
    directories: list[tuple[Path, os.stat_result]] = []
    for name, found in entries(source):
        to = target / name
        if stat.S_ISDIR(found.st_mode):
            to.mkdir(mode=0o700)
            directories.append((to, found))
        elif stat.S_ISLNK(found.st_mode):
            to.symlink_to(os.readlink(source / name))
        else:
            how = _copy_file(source / name, to, how)
            to.chmod(stat.S_IMODE(found.st_mode))
            os.utime(to, ns=(found.st_atime_ns, found.st_mtime_ns))
    for to, found in reversed(directories):  # last: a copied file changes the time of its directory
        to.chmod(stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
        os.utime(to, ns=(found.st_atime_ns, found.st_mtime_ns))
    return how


def _copy_file(source: Path, target: Path, how: How) -> How:
    if how == "reflink":
        with source.open("rb") as reading, target.open("xb") as writing:
            try:
                fcntl.ioctl(writing.fileno(), FICLONE, reading.fileno())
                return "reflink"
            except OSError:
                pass  # of the next files, only a copy is tried
    found = source.stat()
    if found.st_blocks * 512 < found.st_size:
        _copy_sparse(source, target)
    else:
        shutil.copyfile(source, target)
    return "copy"


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a file with its holes: written out in full, a memory map of a terabyte would fill the disk."""
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        end, position = os.fstat(reading.fileno()).st_size, 0
        writing.truncate(end)
        while position < end:
            try:
                position = os.lseek(reading.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # the rest is a hole
            hole = os.lseek(reading.fileno(), position, os.SEEK_HOLE)
            while position < hole and (piece := os.pread(reading.fileno(), min(CHUNK, hole - position), position)):
                position += os.pwrite(writing.fileno(), piece, position)
            if position < hole:
                break  # it has been truncated


def clone(source: Path, target: Path) -> How:
    """Make `target`, which is absent or an empty directory, a clone. It is whole, or as it was before.

    Raises:
        OSError: it cannot be written, or is not empty.
    """
    for left in target.parent.glob(f".{target.name}.{'[0-9a-f]' * 8}.partial"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    aside = target.with_name(f".{target.name}.{Unpatched.urandom(4).hex()}.partial")
    try:
        how = copy_tree(source, aside)
        aside.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return how
