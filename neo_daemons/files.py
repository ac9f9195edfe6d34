"""Write files that are complete or absent, whatever is killed in between."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from .unpatched import Unpatched, read_at

F_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS, fcntl(2)."""
AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""renameat2(2)."""


def write_whole(
    path: Path, data: bytes, *, sync: bool = False, lazy: bool = False, mode: int | None = None
) -> os.stat_result:
    """Replace the file by one with `data`, and return its status. With `sync` it survives a power cut, not only the
    death of a process; with `lazy` a power cut may leave an empty file, and it takes less time to replace it over and
    over. `mode` sets its permissions before anything is written.

    Raises:
        OSError: nothing was changed.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{Unpatched.urandom(4).hex()}.tmp")
    try:
        # Each start of a daemon writes two records, so this makes no file object.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            while data:
                data = data[os.write(descriptor, data) :]
            if sync:
                sync_file(descriptor)
            written = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if lazy:
            _replace_lazily(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    if sync:
        descriptor = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync_file(descriptor)
        finally:
            os.close(descriptor)
    return written


def sync_file(descriptor: int) -> None:
    """Have an open file or directory survive a power cut as it is.

    Raises:
        OSError: it may not.
    """
    # On macOS fsync(2) leaves it in the cache of the drive. Some file systems, such as those of a network, have only
    # that.
    if F_FULLFSYNC is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _replace_lazily(temporary: str, path: Path) -> None:
    """Make two files change places, and remove the old one. After a plain rename, ext4 writes the new file to the disk
    at once, and to remove it takes until that is done: some tenths of a millisecond in each run of a daemon."""
    if exchange(temporary, path):
        os.unlink(temporary)
    else:
        os.replace(temporary, path)


def exchange(one: str | Path, other: Path) -> bool:
    """Make two files or directories change places, at once. Return False if one is missing, or the system cannot."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Return the function of the C library; None if it has none."""
    import ctypes  # it takes longer to load than all else here

    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def read_regular(path: Path, limit: int) -> bytes:
    """Return the first `limit` bytes of a regular file; a pipe would block us.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    descriptor = Unpatched.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(Unpatched.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return read_at(descriptor, 0, limit)
    finally:
        Unpatched.close(descriptor)


def write_struct(path: Path, value: msgspec.Struct, *, sync: bool = False, lazy: bool = False) -> os.stat_result:
    """Write `value` as indented JSON, like `write_whole`."""
    return write_whole(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n", sync=sync, lazy=lazy)


def remove_leftover_temporaries(directory: Path) -> None:
    """Remove what `write_whole` leaves when it is killed. Call it only as the sole user of the directory."""
    for path in directory.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()
