"""Functions of the operating system as they were when this module was imported.

The pytest plugin works inside the process of the tests, and a test may replace anything there: the clock, the file
system, sockets. Code that has to work whatever a test does uses these functions. They are attributes of a class because
pyfakefs, freezegun and the like replace the names of modules.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

CHUNK = 1 << 20


class Unpatched:
    """The originals."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.stat)
    lstat = staticmethod(os.lstat)
    listdir = staticmethod(os.listdir)
    readlink = staticmethod(os.readlink)
    flock = staticmethod(fcntl.flock)
    pread = staticmethod(os.pread)
    getpid = staticmethod(os.getpid)
    geteuid = staticmethod(os.geteuid)
    urandom = staticmethod(os.urandom)
    if sys.platform == "linux":
        getxattr = staticmethod(os.getxattr)
        waitid = staticmethod(os.waitid)
    sleep = staticmethod(time.sleep)
    connect = staticmethod(socket.SocketType.connect)
    """The method of the C type: pytest-socket and pytest-recording replace the method of `socket.socket`."""
    socket = socket.socket
    monotonic = staticmethod(partial(time.clock_gettime, time.CLOCK_MONOTONIC))
    """`time.monotonic` under a name that freezegun and time-machine leave alone. Seconds."""
    thread_time = staticmethod(partial(time.clock_gettime, time.CLOCK_THREAD_CPUTIME_ID))
    """The CPU time of this thread, in seconds."""
    time = staticmethod(partial(time.clock_gettime, time.CLOCK_REALTIME))
    """`time.time`, likewise. Seconds since the epoch."""


class Tail:
    """Reads what is appended to a file, through a descriptor that stays open while the path refers to the same file.

    Args:
        path: the file, which need not exist yet.
        start: the byte to start at; None: the current end.
    """

    def __init__(self, path: Path, start: int | None = None) -> None:
        self._path = str(path)
        self._descriptor = -1
        self._file = (-1, -1)
        self.position = self._size() if start is None else start

    def _size(self) -> int:
        try:
            return Unpatched.stat(self._path).st_size
        except OSError:
            return 0

    def read(self) -> bytes:
        """Return what is new; the whole content if the file was replaced or truncated."""
        try:
            found = Unpatched.stat(self._path)
            if found.st_size == self.position and self._file in ((-1, -1), (found.st_dev, found.st_ino)):
                return b""
            if self._file != (found.st_dev, found.st_ino):
                replaced = self._descriptor >= 0
                self.close()
                self._descriptor = Unpatched.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                self._file = (found.st_dev, found.st_ino)
                self.position = 0 if replaced else self.position
            if found.st_size < self.position:
                self.position = 0
            data = read_at(self._descriptor, self.position)
        except OSError:
            return b""
        self.position += len(data)
        return data

    def close(self) -> None:
        """Close the descriptor; `read` opens it again."""
        if self._descriptor >= 0:
            Unpatched.close(self._descriptor)
            self._descriptor, self._file = -1, (-1, -1)


def read_at(descriptor: int, start: int, limit: int | None = None) -> bytes:
    """Read a file from byte `start` on, up to `limit` bytes.

    Raises:
        OSError: it cannot be read.
    """
    pieces = []
    while limit is None or limit > 0:
        piece = Unpatched.pread(descriptor, min(limit or CHUNK, CHUNK), start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        limit = limit - len(piece) if limit is not None else None
    return b"".join(pieces)


def read_file(path: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = Unpatched.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_at(descriptor, 0)
    finally:
        Unpatched.close(descriptor)
