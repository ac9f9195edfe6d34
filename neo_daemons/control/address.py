"""Where the control socket is: in the state directory, or in a short private one where that path is too long."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import sys
import tempfile
from pathlib import Path

from neo_daemons.state_dir import StateDirError

MAX_PATH_BYTES = 103
"""sun_path holds 104 bytes on macOS, 108 on Linux, with the final zero."""
UCRED = struct.Struct("=iII")
"""struct ucred: pid, uid, gid; unix(7)."""


def socket_path(state_dir: Path) -> Path:
    """The socket of the supervisor of `state_dir`. Its directory is made, private to this user.

    Raises:
        StateDirError: the short directory exists and is not ours alone.
    """
    path = state_dir / "control.sock"
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        return path
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and len(runtime) <= 60 else Path(tempfile.gettempdir())
    directory = base / f"neo-daemons-{os.geteuid()}"
    if len(os.fsencode(directory)) > MAX_PATH_BYTES - 22:
        directory = Path("/tmp") / f"neo-daemons-{os.geteuid()}"  # noqa: S108 - checked below
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StateDirError(f"{directory} is not a private directory of this user; remove it, or set XDG_RUNTIME_DIR")
    return directory / f"{hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]}.sock"


def bind(path: Path) -> socket.socket:
    """A listening socket at `path`, for this user only. Only for who holds the state directory's lock: what is
    there already is a dead supervisor's.

    Raises:
        StateDirError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StateDirError(f"cannot make the control socket {path}: {error.strerror}") from None
    return listener


def peer_may_enter(connection: socket.socket) -> bool:
    """Whether the other end is this user or root. Where the system does not tell, the directory's mode decides."""
    if sys.platform != "linux":
        return True
    _, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return uid in (os.geteuid(), 0)
