"""Find out which user's process is at the other end of a local connection."""

from __future__ import annotations

import socket
import struct
import sys

from neo_daemons.unpatched import Unpatched

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


def _uid(connection: socket.socket) -> int | None:
    if sys.platform != "linux":
        return None
    _, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return int(uid)
