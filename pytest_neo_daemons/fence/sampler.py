"""Watches the connections of the processes that tests have started, where nothing can be refused.

Programs in other languages than Python and JavaScript, and those with an environment of their own, stand behind no
wall. So while there are child processes, a thread looks at their connections every 20 ms, and more often in the first
half second of each; less often if that took more than a tenth of a core. It may miss a shorter one.

It works beside tests that may have replaced the file system, the clock or functions of `os`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from neo_daemons import procfs, threads
from neo_daemons.unpatched import Unpatched, read_file

from .wall import Plan, Port, is_reached

INTERVAL_S = 0.02
FIRST_S = 0.002
"""The interval at which it looks at first: most programs connect soon."""
LINGER_S = 0.5
"""How long after a process was about to be started it does so, and waits for one to be there."""
MOST = 0.1
"""How much of a core it may use."""
OWN_SUPERVISOR = "neo_daemons.ephemeral"
"""The module that the supervisor of a run's session is. Tests do not start its daemons."""
HAS_PROC = Path("/proc/self/task").exists()
CLOSED = "07"
"""State of a socket that was bound, but is not connected; include/net/tcp_states.h."""


class Sampler:
    """Looks for connections of child processes to fenced ports.

    Args:
        plan: returns what is fenced at present.
        tell: called with the pid, the command line, and the port of each connection that is found.
    """

    def __init__(self, plan: Callable[[], Plan], tell: Callable[[int, str, int], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._pid = Unpatched.getpid()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._known: set[str] = set()
        """Inodes of open sockets that have been looked at, and will not be connected to another address."""
        self._told: set[str] = set()
        self._looked_for: Plan | None = None
        """The plan for which they have been looked at."""

    def wake(self) -> None:
        """Look from now on, as long as there are child processes."""
        if Unpatched.getpid() != self._pid or self._closing.is_set() or not HAS_PROC:
            return  # in the child of a fork, at the end, or where nothing can be seen
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threads.start(self._watch, "neo-daemons fence")

    def close(self) -> None:
        """Stop looking, for good."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            until = Unpatched.monotonic() + LINGER_S
            while not self._closing.is_set():
                if self._wake.is_set():
                    self._wake.clear()
                    until = Unpatched.monotonic() + LINGER_S
                begun = Unpatched.thread_time()
                has_children = False
                with contextlib.suppress(OSError, ValueError):  # of a process that has just ended
                    has_children = self._look()
                is_first = Unpatched.monotonic() < until
                if not has_children and not is_first:
                    break
                took = Unpatched.thread_time() - begun
                self._closing.wait(max(FIRST_S if is_first else INTERVAL_S, took / MOST))

    def _look(self) -> bool:
        """Look at the sockets of the processes that are not known yet; return whether there are child processes."""
        children = list(descendants(self._pid)) if _has_children() else []
        plan = self._plan()
        if plan is not self._looked_for:
            self._looked_for, self._known = plan, set()
        if children and plan.ports:
            held = {inode: (pid, path) for pid in (*children, self._pid) for inode, path in sockets(pid)}
            self._known.intersection_update(held)
            self._told.intersection_update(held)
            new = held.keys() - self._known
            self._known.update(inode for inode in new if not _is_tcp(held[inode][1]))
            if new - self._known:
                self._find_connections({inode: held[inode][0] for inode in new - self._known}, plan.ports)
        return bool(children)

    def _find_connections(self, pids: Mapping[str, int], ports: Mapping[int, tuple[Port, ...]]) -> None:
        """Tell of the sockets that are connected to a fenced port. Those that are not connected yet stay unknown."""
        for inode, address, number in connections(pids):
            self._known.add(inode)
            if inode not in self._told and any(is_reached(port.host, address) for port in ports.get(number, ())):
                self._told.add(inode)
                self._tell(pids[inode], " ".join(procfs.command(pids[inode]))[:200], number)


def _has_children() -> bool:
    try:
        Unpatched.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def descendants(root: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have, but for the supervisor of a session of
    ours and its daemons."""
    todo = [root]
    while todo:
        for pid in _children(todo.pop()):
            command = procfs.command(pid)
            if command and OWN_SUPERVISOR not in command:  # a zombie has none
                yield pid
                todo.append(pid)


def _children(pid: int) -> Iterator[int]:
    try:
        threads = Unpatched.listdir(f"/proc/{pid}/task")
    except OSError:
        return  # it has ended
    for thread in threads:
        with contextlib.suppress(OSError):
            yield from map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())


def sockets(pid: int) -> Iterator[tuple[str, str]]:
    """Yield the inode of each socket that a process has open, and a path of it."""
    directory = f"/proc/{pid}/fd"
    try:
        numbers = Unpatched.listdir(directory)
    except OSError:
        return  # it has ended, or is another user's
    for number in numbers:
        with contextlib.suppress(OSError):  # it was closed meanwhile
            link = Unpatched.readlink(f"{directory}/{number}")
            if link.startswith("socket:["):
                yield link[8:-1], f"{directory}/{number}"


def _is_tcp(path: str) -> bool:
    """Return whether a socket may be one of TCP; see sockfs_xattr_get in net/socket.c."""
    try:
        return b"TCP" in Unpatched.getxattr(path, "system.sockprotoname")
    except OSError:
        return True


def connections(inodes: Container[str]) -> Iterator[tuple[str, str, int]]:
    """Yield the inode, the remote address and the remote port of each of these sockets that is, or is about to be,
    connected by TCP, or listens."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = read_file(table).decode().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[9] in inodes and fields[3] != CLOSED:
                address, _, number = fields[2].partition(":")
                yield fields[9], str(procfs.parse_address(address)), int(number, 16)
