"""The lock of a supervisor on its state directory: flock(2), by filelock, on a file that is never unlinked.

filelock has other kinds (a soft lock where flock is missing), and has had versions that unlink the file on release,
which splits those who wait for it. `tests/test_locks.py` pins what is relied on here.
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
    """The lock, not yet taken. See filelock for `acquire` and `release`."""
    from filelock import UnixFileLock  # who only asks `is_held` has no use for it

    return UnixFileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock on a file, without taking it away from anybody but for a moment. False if there
    is no such file.

    Raises:
        OSError: the file cannot be looked at.
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
