"""Finds the processes that a test has started and left, whatever they have done to themselves, and ends them.

Uses nothing of the project: what is under test must not decide what is left of it. Linux only, as ``/proc`` is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path

TAG = "STARTED_BY_TEST"
"""Environment variable that every process of a test inherits: the worker's pid and the test's name."""
END_S = 60.0
"""What lives so long after the first SIGKILL cannot be ended: another user's, or asleep in the kernel."""
_DEAD = (b"Z", b"X", b"x")


def living() -> list[int]:
    """All processes but our own and its ancestors."""
    own, pid = set(), os.getpid()
    while pid > 0:
        own.add(pid)
        found = stat(pid)
        pid = int(found[1]) if found else 0
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]


def stat(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat from the third (state) on, or [] for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in _DEAD else fields


def newest() -> bytes:
    """The pid that the kernel has given last. As long as it is the same, no process has been started."""
    return Path("/proc/loadavg").read_bytes().split()[-1]


def environment(pid: int) -> bytes:
    """With which a process was started; empty, where that cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0" + file.read()
    except OSError:
        return b""


def descriptors(pid: int) -> list[str]:
    """What a process has open, as far as it can be read: any of it may be closed, or the process end, meanwhile."""
    found = []
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


def children(pid: int) -> list[int]:
    """The children of a process, dead ones among them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def descendants() -> set[int]:
    """Our living descendants. With a subreaper's eyes: those whose parents have died, too."""
    found: set[int] = set()
    queue = children(os.getpid())
    while queue:
        pid = queue.pop()
        queue += children(pid)
        if pid not in found and stat(pid):
            found.add(pid)
    return found


def tagged(tag: str, root: Path | None) -> Callable[[], set[int]]:
    """Finds what carries a tag or, where a root is named, works in it or has a file below it open."""
    entry = os.fsencode(f"\0{TAG}={tag}\0")
    strangers: set[int] = set()  # looked at already: so that each look is quicker than a process that forks on

    def is_ours(pid: int) -> bool:
        if entry in environment(pid):
            return True
        if root is None:
            return False
        with contextlib.suppress(OSError):
            if Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(root):
                return True
        return any(name.startswith(f"{root}/") for name in descriptors(pid))

    def find() -> set[int]:
        found = set()
        for pid in living():
            if pid not in strangers:
                if not stat(pid):
                    continue
                if is_ours(pid):
                    found.add(pid)
                else:
                    strangers.add(pid)
        return found

    return find


def describe(pid: int) -> str:
    """A process, with the test that has started it, for people."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        tag = next((v for v in environment(pid).split(b"\0") if v.startswith(f"{TAG}=".encode())), b"")
        test = tag.partition(b":")[2].decode(errors="replace")
        return f"pid {pid} ({' '.join(command.split())[:120]}{f'; of {test}' if test else ''})"
    return f"pid {pid}"


def end(find: Callable[[], Set[int]], reap: Callable[[], object] = lambda: None) -> list[str]:
    """End what `find` finds, until it finds nothing; what that was. All of it is frozen before any of it is killed, so
    that nothing can fork on meanwhile."""
    told: list[str] = []
    deadline = time.monotonic() + END_S
    while frozen := set(_freeze(find, deadline)):
        if not told:
            told = [describe(pid) for pid in sorted(frozen) if stat(pid)]
        for pid in frozen:
            _send(pid, signal.SIGKILL)
        reap()
        if time.monotonic() > deadline:
            return [*told, "… which cannot be ended"]
        time.sleep(0.001)
    return told


def _freeze(find: Callable[[], Set[int]], deadline: float) -> Iterator[int]:
    frozen: set[int] = set()
    while fresh := find() - frozen:
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
        frozen |= fresh
        yield from fresh
        if time.monotonic() > deadline:
            return


def _send(pid: int, signum: int) -> None:
    """To a process and its whole group. A group of another session than ours was made by a process that we look for:
    nobody can join a session of others."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getsid(pid) != os.getsid(0):
            os.killpg(os.getpgid(pid), signum)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
