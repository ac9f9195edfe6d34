"""Makes paths that users state absolute and free of links."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from .state_dir import is_text

F_GETPATH: int | None = getattr(fcntl, "F_GETPATH", None)
"""macOS: fcntl(2) returns the path of an open file, as the file system keeps it."""
EVENTS_ONLY = getattr(os, "O_EVTONLY", 0)
"""macOS: opening a file for this needs no permission to read it, and has no effect on a device."""
MAXPATHLEN = 1024
"""The longest path there, sys/syslimits.h of XNU; `fcntl.fcntl` returns no more."""


def real_path(path: str | Path, base: Path | None = None) -> Path:
    """Return a path, relative to `base` (by default the working directory) or "~", as an absolute path without links.

    Raises:
        ValueError: there is no such path (an unknown "~user", a loop of links, no working directory any more), or it
            is not UTF-8. ``str()`` says which.
    """
    try:
        stated = Path(path).expanduser()
        if not stated.is_absolute():
            stated = (base or working_directory()) / stated
        real = canonical(stated.resolve())
    except (RuntimeError, OSError) as error:
        raise ValueError("the home directory is unknown" if "home directory" in str(error) else str(error)) from None
    if not is_text(real):
        raise ValueError("the path is not UTF-8")
    return real


def canonical(path: Path) -> Path:
    """Return an absolute path without links as the file system keeps its names. Most file systems of macOS take names
    in any case, so two paths may lead to one directory; elsewhere this is the path itself. What does not exist keeps
    its stated name."""
    if F_GETPATH is None:
        return path
    for step in (path, *path.parents):
        try:
            descriptor = os.open(step, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | EVENTS_ONLY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            return path
        try:
            kept = path_of(descriptor)
        finally:
            os.close(descriptor)
        return Path(kept) / path.relative_to(step) if kept is not None else path
    return path


def path_of(descriptor: int) -> str | None:
    """Return the path of an open file or directory, wherever it has been moved; None if the system does not tell. Of a
    deleted one, Linux says that it is deleted at the end."""
    try:
        if F_GETPATH is None:
            return os.readlink(f"/proc/self/fd/{descriptor}")
        return os.fsdecode(fcntl.fcntl(descriptor, F_GETPATH, bytes(MAXPATHLEN)).partition(b"\0")[0])
    except OSError:
        return None


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        ValueError: it has been deleted.
    """
    try:
        return Path.cwd()
    except OSError:
        raise ValueError("the working directory has been deleted; change to another directory") from None


def holds(test: Callable[[], bool]) -> bool:
    """Return the result of a path's own test, or False if the system does not let us check."""
    try:
        return test()
    except OSError:
        return False
