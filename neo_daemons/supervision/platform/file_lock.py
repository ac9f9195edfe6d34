"""A kernel lock on a file, whose descriptor a child can inherit."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from .contract import Lock


class FileLock(Lock):
    """flock(2) on a file that is never unlinked. `filelock` has no public way to hand its descriptor to a child."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def take(path: Path, note: str = "") -> Lock | None:
    """Take the lock on `path` without waiting; None if another process holds it. The winner writes `note` into it.

    Raises:
        OSError: the file cannot be opened or is a link.
    """
    # O_NOFOLLOW: in a directory that others can write to, a link could make us write somewhere else.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Only the winner writes: the loser must not erase the note of the holder.
        # A file with another name may be one that a user of this directory has linked here.
        if note and os.fstat(descriptor).st_nlink == 1:
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, note.encode(), 0)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return FileLock(path, descriptor)
