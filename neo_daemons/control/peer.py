"""Find out which user's process is at the other end of a local connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Mapping

from neo_daemons.unpatched import Unpatched

LOCAL_PEERCRED, LOCAL_PEERPID = 1, 2
"""Options of a local socket, sys/un.h of XNU."""
SOL_LOCAL = 0
XUCRED = struct.Struct("=IIhxx16I")
"""struct xucred, sys/ucred.h of XNU: version, uid, number of groups, groups."""
XUCRED_VERSION = 0
UCRED = struct.Struct("=iII")
"""struct ucred: pid, uid, gid; unix(7)."""


def may_enter(connection: socket.socket) -> bool:
    """Return whether the client is a process of this user or of root. Where the system does not report the user, the
    permissions of the socket and of its directory decide."""
    uid = _uid(connection)
    return uid is None or uid in (Unpatched.geteuid(), 0)


def may_be_trusted(connection: socket.socket) -> bool:
    """Return whether the server is a process of this user or of root. A client sends nothing to any other server and
    ignores what it says. Root trusts the servers of all users."""
    return Unpatched.geteuid() == 0 or may_enter(connection)


def pid(connection: socket.socket) -> int | None:
    """Return the process that opened a local connection; None if the system does not tell."""
    credentials = _credentials(connection)
    return credentials[0] or None if credentials is not None else None


def _uid(connection: socket.socket) -> int | None:
    credentials = _credentials(connection)
    return credentials[1] if credentials is not None else None


def _credentials(connection: socket.socket) -> tuple[int, int] | None:
    """Return the process and the user at the other end."""
    read = _READERS.get(sys.platform)
    return read(connection) if read is not None and connection.family == socket.AF_UNIX else None


def _of_linux(connection: socket.socket) -> tuple[int, int]:
    pid, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return int(pid), int(uid)


def _of_macos(connection: socket.socket) -> tuple[int, int] | None:
    pid = 0
    with contextlib.suppress(OSError):  # the peer has gone meanwhile
        pid = connection.getsockopt(SOL_LOCAL, LOCAL_PEERPID)
    version, uid, *_ = XUCRED.unpack(connection.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, XUCRED.size))
    return (pid, int(uid)) if version == XUCRED_VERSION else None


_READERS: Mapping[str, Callable[[socket.socket], tuple[int, int] | None]] = {"darwin": _of_macos, "linux": _of_linux}
