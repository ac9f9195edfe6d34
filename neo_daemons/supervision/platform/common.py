"""What every system has, and what is said where a system does not tell."""

from __future__ import annotations

import abc
import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from neo_daemons import addresses

from . import file_lock
from .contract import MARK_VARIABLE, FileChanges, Lock, Mark, Process

_MARKED = MARK_VARIABLE.encode() + b"="


def resolve_local(host: str) -> addresses.Address:
    """Resolve a host as `CommonPlatform._bind` does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return addresses.parse(str(socket.getaddrinfo(host or None, 0, family, flags=socket.AI_PASSIVE)[0][4][0]))


def mark_in(environ: bytes) -> str | None:
    """Return the value of the mark in an environment, ``NAME=value`` that end with zero bytes; None if it has none."""
    # A look at the process table asks this of every process, so it makes no object that it does not need.
    start = 0 if environ.startswith(_MARKED) else environ.find(b"\0" + _MARKED) + 1
    if not environ.startswith(_MARKED, start):
        return None
    return os.fsdecode(environ[start + len(_MARKED) :].partition(b"\0")[0])


class CommonPlatform(abc.ABC):
    """See `contract.Platform`."""

    reason: str | None = None

    @abc.abstractmethod
    def pids(self) -> Sequence[int]: ...

    @abc.abstractmethod
    def mark_of(self, pid: int) -> Mark | None: ...

    @abc.abstractmethod
    def _claim(self, pid: int, is_ours: Callable[[], object]) -> Process | None:
        """Open `pid`, if `is_ours` still holds after it was opened."""

    def marked(self, match: Callable[[Mark], bool]) -> list[tuple[Process, Mark]]:
        found = []
        for pid in self.pids():
            mark = self.mark_of(pid)
            if mark is not None and match(mark):
                process = self.open_marked(pid, mark)
                if process is not None:
                    found.append((process, mark))
        return found

    def open_marked(self, pid: int, mark: Mark) -> Process | None:
        return self._claim(pid, lambda: self.mark_of(pid) == mark)

    def newest_pid(self) -> int | None:
        return None

    def orphans(self) -> Sequence[int] | None:
        return None

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        return False

    def oom_kills(self) -> int | None:
        return None

    def lock(self, path: Path, note: str = "") -> Lock | None:
        return file_lock.take(path, note)

    def port_is_free(self, host: str, port: int) -> bool:
        try:
            self._bind(host, port).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True

    def free_port(self, host: str) -> int:
        with self._bind(host, 0) as listener:
            return int(listener.getsockname()[1])

    def _bind(self, host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Servers do this too: then only listeners count, not old connections in TIME_WAIT.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise OSError(error.errno, error.strerror, f"{host}:{port}" if port else host) from None
        return listener

    def listens(self, pid: int, port: int, host: str) -> bool:
        return False

    def file_changes(self) -> FileChanges | None:
        return None
