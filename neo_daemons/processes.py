"""Processes as they are seen from outside, whatever the system: observers, the registry and the plugin ask here.

Nothing is opened, signalled or changed. Linux shows processes in ``/proc`` (`procfs`), macOS by libproc (`libproc`).
What the system does not show raises `records.Unseen`, or is None or empty, as each function says: unknown is not dead.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from .records import Identity


class Side(Protocol):
    """What a system shows of processes."""

    def boot_id(self) -> str: ...
    def machine(self) -> str: ...
    def pid_space(self) -> str: ...
    def identify(self, pid: int) -> Identity | None: ...
    def started_at(self, pid: int) -> float | None: ...
    def is_stopped(self, pid: int) -> bool: ...
    def command(self, pid: int) -> tuple[str, ...]: ...
    def environment_holds(self, pid: int, text: str) -> bool | None: ...
    def has_open(self, pid: int, path: Path) -> bool | None: ...
    def deleted_file(self, pid: int, name: str) -> str | None: ...
    def listener(self, address: str, port: int) -> tuple[str, int | None] | None: ...
    def holds_socket(self, pid: int, socket: str) -> bool: ...
    def listens(self, pid: int, address: str, port: int) -> bool: ...


def _choose() -> Side:
    if sys.platform == "darwin":
        from . import libproc

        return libproc
    from . import procfs

    return procfs


side = _choose()


def boot_id() -> str:
    """Return the id of this boot.

    Raises:
        Unseen: the system does not report it.
    """
    return side.boot_id()


def machine() -> str:
    """Identify what has the ports that this process sees: a boot, and on Linux a network namespace of it."""
    return side.machine()


def pid_space() -> str:
    """Identify the processes that see each other: those of a boot, and on Linux of a pid namespace of it."""
    return side.pid_space()


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that has this pid now; None if there is none, or it is a zombie.

    Raises:
        Unseen: the system does not tell.
    """
    return side.identify(pid)


def started_at(pid: int) -> float | None:
    """Return when the process started, in seconds since the epoch; None if it has exited. It may be a second off.

    Raises:
        Unseen: the system does not tell.
    """
    return side.started_at(pid)


def is_stopped(pid: int) -> bool:
    """Return whether a signal or a debugger has suspended the process; False if it is hidden."""
    return side.is_stopped(pid)


def command(pid: int) -> tuple[str, ...]:
    """Return the command line of the process; empty if it has exited or is hidden."""
    return side.command(pid)


def environment_holds(pid: int, text: str) -> bool | None:
    """Return whether `text` is in the environment that the process was started with; None if we may not read it, or if
    the process is exiting and has released its memory."""
    return side.environment_holds(pid, text)


def has_open(pid: int, path: Path) -> bool | None:
    """Return whether the process has the file at `path` open; None if its files are hidden."""
    return side.has_open(pid, path)


def deleted_file(pid: int, name: str) -> str | None:
    """Return the path of a deleted file called `name` that the process has open; None if none is visible."""
    return side.deleted_file(pid, name)


def listener(address: str, port: int) -> tuple[str, int | None] | None:
    """Return an id of the socket that a connection to a local address reaches, and the oldest process that is seen to
    hold it. None if no socket is visible. This looks at all processes, which takes milliseconds."""
    return side.listener(address, port)


def holds_socket(pid: int, socket: str) -> bool:
    """Return whether the process is seen to hold a socket that `listener` has found."""
    return side.holds_socket(pid, socket)


def listens(pid: int, address: str, port: int) -> bool:
    """Return whether the process is seen to answer connections to a local address."""
    return side.listens(pid, address, port)
