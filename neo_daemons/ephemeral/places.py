"""Where the sessions of this user are."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path

from neo_daemons.paths import canonical
from neo_daemons.state_dir import StateDir, StateDirError, is_text
from neo_daemons.unpatched import Unpatched

WARM = "warm-*"
PATTERNS = ("run-*", WARM)
"""The names of sessions."""


def base() -> Path:
    """Return the directory of all sessions of this user, which no other user may enter.

    Raises:
        StateDirError: it belongs to another user, or is a symbolic link.
    """
    path = _path()
    if not is_text(path):
        raise StateDirError(f"{path}: the path is not UTF-8; set TMPDIR to another directory")
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StateDirError(f"cannot create {path}: {error.strerror}; set TMPDIR to a writable directory") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StateDirError(
            f"{path} is not a private directory of this user; remove it, or set TMPDIR to another directory"
        )
    return path


def is_there() -> bool:
    """Return whether there is a directory of all sessions.

    Raises:
        StateDirError: there is no directory for temporary files.
    """
    return _path().exists()


def _path() -> Path:
    try:
        return canonical(Path(tempfile.gettempdir()).resolve()) / f"neo-daemons-{os.geteuid()}"
    except OSError:
        raise StateDirError(
            "no directory for temporary files is writable; set TMPDIR to a writable directory"
        ) from None


def new() -> StateDir:
    """Return the place of a new session, where nothing is created yet.

    Raises:
        StateDirError: as `base`.
    """
    return StateDir(base() / f"run-{Unpatched.urandom(6).hex()}")


def warm(root: Path, source: Path | None) -> StateDir:
    """Return the place of the one session of a project that may be kept warm.

    Raises:
        StateDirError: as `base`.
    """
    return StateDir(base() / f"warm-{digest((str(root), str(source)))}")


def is_warm(state_dir: StateDir) -> bool:
    """Return whether a session may be kept warm."""
    return state_dir.path.name.startswith("warm-")


def lock_of(state_dir: StateDir) -> Path:
    """Return the lock file of a session. Processes lock it while they use, end or remove the session."""
    return state_dir.path.with_name(f"{state_dir.path.name}.lock")


def open_output(state_dir: StateDir) -> int:
    """Open the file for the output of a session's supervisor. Return the descriptor, to append to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return Unpatched.open(str(state_dir.supervisor_log), flags, 0o600)


def digest(value: object) -> str:
    """Return 16 characters that stand for a value of strings, which may contain bytes that are not UTF-8."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
