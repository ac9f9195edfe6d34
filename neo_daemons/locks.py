"""The lock of a supervisor on its state directory: flock(2) on a file that is never unlinked.

If the file were unlinked on release, two processes could hold "the" lock: one on the old file, one on the new.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from .unpatched import Unpatched


class LockTaken(Exception):
    """Another process holds the lock."""


class SupervisorLock:
    """The lock on the file at `path`, which the death of this process frees."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    @property
    def is_locked(self) -> bool:
        """Whether we hold it."""
        return self._descriptor >= 0

    def acquire(self, *, timeout_s: float = 0.0, poll_s: float = 0.05) -> None:
        """Take the lock, creating the file if it is missing.

        Raises:
            LockTaken: another process holds it, still after `timeout_s`.
            OSError: the file cannot be opened or locked, or is a link.
        """
        deadline = time.monotonic() + timeout_s
        while not self._try():
            if time.monotonic() >= deadline:
                raise LockTaken(f"{self._path} is locked by another process")
            time.sleep(poll_s)

    def _try(self) -> bool:
        # O_NOFOLLOW: in a directory that others can write to, a link could make us lock somewhere else.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Deleted between the two calls: the lock on it would keep nobody out.
            is_taken = os.fstat(descriptor).st_nlink > 0
        except BlockingIOError:
            is_taken = False
        except OSError:
            os.close(descriptor)
            raise
        if is_taken:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return is_taken

    def release(self) -> None:
        """Free the lock, if we hold it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock on a file; False if there is no such file. To find out, this takes a
    shared lock for a moment.

    Raises:
        OSError: the file cannot be opened.
    """
    try:
        descriptor = Unpatched.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        Unpatched.close(descriptor)
    return False
