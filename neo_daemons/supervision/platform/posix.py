"""Any POSIX system, by psutil: the last resort where there is no pidfd, and the base of the Linux platform.

It polls for the exits of processes that are not its children, and proves their identity right before each signal, which
leaves a gap between check and kill. `linux` closes both gaps. macOS needs a kqueue watcher here; this was never run
there.

The functions that need psutil or asyncio import them: on Linux, a client that starts a supervisor needs neither, and
loading them takes longer than all else that it does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neo_daemons import addresses, procfs
from neo_daemons.records import Identity

from . import file_lock, spawning
from .contract import (
    MARK_VARIABLE,
    ExitStatus,
    FileChanges,
    Lock,
    Mark,
    NotOurs,
    PortHolder,
    Process,
    SpawnSpec,
    Unverifiable,
    Usage,
)

if TYPE_CHECKING:
    import asyncio

ON_LINUX: bool = sys.platform == "linux"
SECOND_LOOK_S = 0.02
"""Far longer than anybody takes to ask whether a lock is held."""
POLL_S = 0.1
"""Seconds between two checks for the exit of a process that no event reports."""


class PosixProcess(Process):
    """A process that is known by its number; `popen` is set for a child.

    A child that has exited is reaped when this is closed: until then no other process and no other group has its
    number.

    Args:
        on_closed: called with the pid when this is closed.
    """

    def __init__(
        self,
        pid: int,
        identity: Identity,
        popen: subprocess.Popen[bytes] | None,
        on_closed: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self.pid = pid
        self.identity = identity
        self._popen = popen
        self._on_closed = on_closed
        self._timer: asyncio.TimerHandle | None = None
        self._on_exit: Callable[[ExitStatus], None] | None = None

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        import asyncio

        self._on_exit = on_exit
        # Not at once: the caller must first store what it watches.
        self._timer = asyncio.get_running_loop().call_later(0, self.look)

    def look(self) -> None:
        """Report the exit of the process if it has exited, and look again later if not."""
        import asyncio

        import psutil

        if self._on_exit is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            status = self._ended()
        except (psutil.Error, procfs.ProcfsUnavailable):  # it cannot be read now, and unknown is not dead
            status = None
        if status is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_S, self.look)
        else:
            on_exit, self._on_exit = self._on_exit, None
            on_exit(status)

    def _ended(self) -> ExitStatus | None:
        """Return how the process exited; None if it has not."""
        if self._popen is not None:
            return spawning.ended(self._popen)
        return None if self._proven() else spawning.exit_status_of_zombie(self.pid, self.identity) or ExitStatus()

    def _proven(self) -> bool:
        identity = identity_of(self.pid)
        return identity is not None and identity.matches(self.identity)

    def is_alive(self) -> bool:
        return self._ended() is None

    def is_stopped(self) -> bool:
        import psutil

        with contextlib.suppress(psutil.Error):
            return self.is_alive() and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        return False

    def signal(self, signum: int) -> bool:
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def signal_group(self, signum: int) -> bool:
        # The id of an empty group can be given to a new process. So a group is signalled by number only while its
        # leader keeps that number: while it runs or, if it is our child, until it is reaped.
        if not (self._popen is not None and self._popen.returncode is None) and not self.is_alive():
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS: also for a group of zombies
            return self.signal(signum)
        return True

    def close(self) -> None:
        self._on_exit = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._popen is not None:
            spawning.disown(self._popen)
        self._on_closed(self.pid)


def resolve_local(host: str) -> addresses.Address:
    """Resolve a host as `PosixPlatform._bind` does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return addresses.parse(str(socket.getaddrinfo(host or None, 0, family, flags=socket.AI_PASSIVE)[0][4][0]))


def identity_of(pid: int) -> Identity | None:
    """Return the identity of a running process; None if it is gone or a zombie.

    On Linux it is that which observers see, in ticks since the boot: psutil's moments move with the clock.

    Raises:
        psutil.AccessDenied, procfs.ProcfsUnavailable: it cannot be read.
    """
    if ON_LINUX:
        return procfs.identify(pid)
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return Identity(boot_id="", start_time=process.create_time())
    except psutil.NoSuchProcess:
        return None


def _descriptors(pid: int, path: str) -> frozenset[int]:
    """Return the descriptors of a file that a process has open; none if they are hidden."""
    import psutil

    try:
        return frozenset(file.fd for file in psutil.Process(pid).open_files() if file.path == path)
    except (psutil.Error, OSError):
        return frozenset()


class PosixPlatform:
    """See `contract.Platform`."""

    @property
    def name(self) -> str:
        return "posix"

    def __init__(self) -> None:
        self._children: weakref.WeakSet[PosixProcess] = weakref.WeakSet()

    def boot_id(self) -> str:
        # psutil's start times are absolute, so no boot id is needed.
        return procfs.boot_id() if ON_LINUX else ""

    def age_s(self, identity: Identity) -> float:
        if ON_LINUX:
            return max(time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_time / os.sysconf("SC_CLK_TCK"), 0.0)
        return max(time.time() - identity.start_time, 0.0)

    def own_identity(self) -> Identity:
        identity = identity_of(os.getpid())
        assert identity is not None
        return identity

    def spawn(self, spec: SpawnSpec) -> Process:
        return self._child(spawning.spawn(spec))

    def _child(self, popen: subprocess.Popen[bytes], on_closed: Callable[[int], None] = lambda pid: None) -> Process:
        identity = identity_of(popen.pid) or Identity(boot_id=self.boot_id(), start_time=0.0)
        process = PosixProcess(popen.pid, identity, popen, on_closed)
        self._children.add(process)
        return process

    def _look_at_children(self) -> None:
        for process in list(self._children):
            process.look()

    def open(self, pid: int, identity: Identity) -> Process | None:
        import psutil

        try:
            found = identity_of(pid)
        except (psutil.AccessDenied, procfs.ProcfsUnavailable) as error:
            raise Unverifiable(f"pid {pid}: its identity cannot be read ({error})") from None
        if found is None:
            return None
        if not found.matches(identity):
            raise NotOurs(f"pid {pid} is another process now ({self.describe(pid)})")
        return PosixProcess(pid, found, None)

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

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process] | None:
        """See `contract.Platform`. psutil shows who has the file open, not who holds the lock. Others than its holders
        open it for a moment, to ask whether it is held; so only who has it open in two looks is meant."""
        if deleted:
            return None
        path = os.path.realpath(lock)
        first = {pid: found for pid in self.pids() if (found := _descriptors(pid, path))}
        if first:
            time.sleep(SECOND_LOOK_S)
        opened = (self._claim(pid, lambda p=pid, f=found: f & _descriptors(p, path)) for pid, found in first.items())  # type: ignore[misc]
        return [process for process in opened if process is not None]

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        return False

    def oom_kills(self) -> int | None:
        return None

    def _claim(self, pid: int, is_ours: Callable[[], object]) -> Process | None:
        """Open `pid`, if `is_ours` still holds after it was opened."""
        identity = identity_of(pid)
        return PosixProcess(pid, identity, None) if identity is not None and is_ours() else None

    def pids(self) -> Sequence[int]:
        import psutil

        own = os.getpid()
        return [pid for pid in psutil.pids() if pid not in (own, 0)]

    def mark_of(self, pid: int) -> Mark | None:
        import psutil

        try:
            process = psutil.Process(pid)
            foreign = process.uids().real != os.geteuid()
            return Mark.parse(process.environ().get(MARK_VARIABLE, ""), foreign=foreign)
        except (psutil.Error, OSError):
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

    def port_holder(self, port: int, host: str | None = None) -> PortHolder | None:
        import psutil

        try:
            connections = psutil.net_connections(kind="tcp")
            wanted = resolve_local(host) if host is not None else None
        except (psutil.AccessDenied, OSError):  # macOS without root; a name that does not resolve
            return None
        found: dict[int, int | None] = {}
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port:
                rank = addresses.rank(addresses.parse(connection.laddr[0]), wanted) if wanted is not None else 0
                if rank is not None:
                    found.setdefault(rank, connection.pid)
        if not found:
            return None
        pid = found[min(found)]
        return PortHolder(pid, (self.describe(pid) or "?") if pid else "?")

    def file_changes(self) -> FileChanges | None:
        return None

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        import psutil

        wanted = list(pids)
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter() if wanted else ():  # one look for all of them
            with contextlib.suppress(psutil.Error):
                children.setdefault(process.ppid(), []).append(process)
        result = {}
        for pid in wanted:
            with contextlib.suppress(psutil.Error):
                queue = [psutil.Process(pid)]
                cpu_s, rss_bytes = 0.0, 0
                while queue:
                    process = queue.pop()
                    queue += children.get(process.pid, ())
                    with contextlib.suppress(psutil.Error), process.oneshot():
                        times = process.cpu_times()
                        cpu_s += times.user + times.system
                        rss_bytes += process.memory_info().rss
                result[pid] = Usage(cpu_s, rss_bytes)
        return result

    def describe(self, pid: int) -> str | None:
        import psutil

        try:
            process = psutil.Process(pid)
            text = " ".join(process.cmdline()) or process.name()
        except psutil.NoSuchProcess:
            return None
        except psutil.Error:
            return "?"
        text = "".join(c if c.isprintable() else "?" for c in text)
        return text if len(text) <= 120 else text[:117] + "..."

    def become_subreaper(self) -> bool:
        import asyncio

        # No subreaper, but the exits of our own children are reported at once.
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._look_at_children)
        return False
