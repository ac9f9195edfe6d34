"""The lock of a supervisor on its state directory: flock(2), by filelock, on a file that is never unlinked.

filelock has other kinds (a soft lock where flock is missing), and has had versions that unlink the file on release,
so that two processes hold "the" lock. `tests/test_locks.py` pins the behaviour that this module relies on.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .unpatched import Unpatched

if TYPE_CHECKING:
    from filelock import UnixFileLock


def supervisor_lock(path: Path) -> UnixFileLock:
    """Return the lock, not yet acquired. See filelock for `acquire` and `release`."""
    from filelock import UnixFileLock  # `is_held` does not need it

    return UnixFileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)


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
        Unpatched.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        Unpatched.close(descriptor)
    return False
