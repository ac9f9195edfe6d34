"""Watches the connections of the processes that tests have started, where nothing can be refused.

Programs in other languages than Python and JavaScript, and those with an environment of their own, stand behind no
wall. So while there are child processes, a thread looks at their connections every 20 ms, and more often in the first
half second of each. It may miss a shorter one.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator

from neo_daemons import procfs, threads
from neo_daemons.unpatched import Unpatched

from .wall import Plan, is_reached

INTERVAL_S = 0.02
FIRST_S = 0.002
"""The interval at which it looks at first: most programs connect soon."""
LINGER_S = 0.5
"""How long after a process was about to be started it does so, and waits for one to be there."""
COUNT_S = 1.0
"""The interval at which it looks through all processes to find out whether there are still children."""
OWN_SUPERVISOR = "neo_daemons.ephemeral"
"""The module that the supervisor of a run's session is. Tests do not start its daemons."""
CONNECTED = r"0[12458]"
"""States of a connection that is being made, is there, or is being closed; include/net/tcp_states.h."""


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
        self._seen: set[str] = set()
        """Sockets that have been looked at."""

    def wake(self) -> None:
        """Look from now on, as long as there are child processes."""
        if Unpatched.getpid() != self._pid:
            return  # in the child of a fork
        self._wake.set()
        if self._thread is None:
            self._thread = threads.start(self._watch, "neo-daemons fence")

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _watch(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            until = Unpatched.monotonic() + LINGER_S
            interval_s = FIRST_S
            while not self._closing.is_set() and (_has_children() or Unpatched.monotonic() < until):
                if self._wake.is_set():
                    self._wake.clear()
                    until, interval_s = Unpatched.monotonic() + LINGER_S, FIRST_S
                if Unpatched.monotonic() > until:
                    if not descendants(self._pid):
                        break
                    until, interval_s = Unpatched.monotonic() + COUNT_S, INTERVAL_S
                with contextlib.suppress(OSError, ValueError):  # of a process that has just ended
                    self._look()
                self._closing.wait(interval_s)

    def _look(self) -> None:
        ports = self._plan().ports
        found = [each for each in connections(ports) if each[0] not in self._seen] if ports else []
        if not found:
            return
        pids = [self._pid, *descendants(self._pid)]
        for inode, address, number in found:
            self._seen.add(inode)
            if any(is_reached(port.host, address) for port in ports[number]):
                link = f"socket:[{inode}]"
                pid = next((pid for pid in pids if link in procfs.open_files(pid)), None)
                if pid is not None:
                    self._tell(pid, " ".join(procfs.command(pid))[:200], number)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def descendants(root: int) -> list[int]:
    """Return the processes that a process has started, and those that they have, but for the supervisor of a session
    of ours and its daemons."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = procfs.stat(int(name))
                if fields is not None and fields[0] not in procfs.GONE:
                    children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    todo = [root]
    while todo:
        ours = [pid for pid in children.get(todo.pop(), ()) if OWN_SUPERVISOR not in procfs.command(pid)]
        found += ours
        todo += ours
    return found


def connections(numbers: Collection[int]) -> Iterator[tuple[str, str, int]]:
    """Yield the inode, the remote address and the remote port of each connection of this machine to one of these
    ports."""
    ports = "|".join(f"{number:04X}" for number in numbers)
    wanted = re.compile(rf" ([0-9A-F]{{8}}(?:[0-9A-F]{{24}})?):({ports}) {CONNECTED} ")
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                text = file.read()
        except OSError:
            continue
        for match in wanted.finditer(text):
            fields = text[match.start() : match.start() + 200].split()
            if fields[7] != "0":
                yield fields[7], str(procfs.parse_address(match[1])), int(match[2], 16)
