"""Any POSIX system, by psutil: the last resort where there is no pidfd, and the base of the Linux platform.

macOS needs a kqueue watcher here; this was never run there.

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
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neo_daemons import addresses, procfs
from neo_daemons.records import Identity

from . import file_lock, spawning
from .contract import (
    MARK_VARIABLE,
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
from .polled import ON_LINUX, PolledProcess, identity_of

SECOND_LOOK_S = 0.02
"""Far longer than anybody takes to ask whether a lock is held."""


def resolve_local(host: str) -> addresses.Address:
    """Resolve a host as `PosixPlatform._bind` does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return addresses.parse(str(socket.getaddrinfo(host or None, 0, family, flags=socket.AI_PASSIVE)[0][4][0]))


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
        self._children: weakref.WeakSet[PolledProcess] = weakref.WeakSet()

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
        process = PolledProcess(popen.pid, identity, popen, on_closed)
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
        return PolledProcess(pid, found, None)

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
        return PolledProcess(pid, identity, None) if identity is not None and is_ours() else None

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
        try:
            wanted = resolve_local(host) if host is not None else None
        except OSError:  # the name does not resolve
            return None
        found: dict[int, int | None] = {}
        for pid, address in self._listeners(port):
            rank = addresses.rank(addresses.parse(address), wanted) if wanted is not None else 0
            if rank is not None:
                found.setdefault(rank, pid)
        if not found:
            return None
        pid = found[min(found)]
        return PortHolder(pid, (self.describe(pid) or "?") if pid else "?")

    def _listeners(self, port: int) -> Iterator[tuple[int | None, str]]:
        """Yield who is seen to listen on a port, and the address. macOS shows all of them to root only, and to others
        what their own processes have."""
        import psutil

        seen: list[tuple[int | None, Any]] = []
        try:
            seen += [(found.pid, found) for found in psutil.net_connections(kind="tcp")]
        except psutil.AccessDenied:
            for pid in self.pids():
                with contextlib.suppress(psutil.Error):
                    seen += [(pid, found) for found in psutil.Process(pid).net_connections(kind="tcp")]
        for holder, found in seen:
            if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr[1] == port:
                yield holder, found.laddr[0]

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
