"""Any POSIX system, by psutil: the last resort where no kernel event tells of an exit, and the base of the others.

The functions that need psutil or asyncio import them: on Linux, a client that starts a supervisor needs neither, and
loading them takes longer than all else that it does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neo_daemons import addresses, procfs
from neo_daemons.records import Identity, Unseen

from . import spawning
from .common import CommonPlatform, resolve_local
from .contract import (
    MARK_VARIABLE,
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


def _descriptors(pid: int, path: str) -> frozenset[int]:
    """Return the descriptors of a file that a process has open; none if they are hidden."""
    from .installed import psutil

    try:
        return frozenset(file.fd for file in psutil.Process(pid).open_files() if file.path == path)
    except (psutil.Error, OSError):
        return frozenset()


class PosixPlatform(CommonPlatform):
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
        identity = self._identify(os.getpid())
        assert identity is not None
        return identity

    def spawn(self, spec: SpawnSpec) -> Process:
        return self._child(spawning.spawn(spec))

    def _child(self, popen: subprocess.Popen[bytes], on_closed: Callable[[int], None] = lambda pid: None) -> Process:
        identity = self._identify(popen.pid) or Identity(boot_id=self.boot_id(), start_time=0.0)
        process = self._process(popen.pid, identity, popen, on_closed)
        self._children.add(process)
        return process

    def _process(
        self,
        pid: int,
        identity: Identity,
        popen: subprocess.Popen[bytes] | None = None,
        on_closed: Callable[[int], None] = lambda pid: None,
    ) -> PolledProcess:
        """Make the handle of a process; `popen` is set for a child."""
        return PolledProcess(pid, identity, popen, on_closed, self._identify)

    def _identify(self, pid: int) -> Identity | None:
        """Return the identity of a running process; None if it is gone or a zombie."""
        return identity_of(pid)

    def _look_at_children(self) -> None:
        for process in list(self._children):
            process.look()

    def open(self, pid: int, identity: Identity) -> Process | None:
        from .installed import psutil

        try:
            found = self._identify(pid)
        except (psutil.AccessDenied, Unseen) as error:
            raise Unverifiable(f"pid {pid}: its identity cannot be read ({error})") from None
        if found is None:
            return None
        if not found.matches(identity):
            raise NotOurs(f"pid {pid} is another process now ({self.describe(pid)})")
        return self._process(pid, found)

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

    def _claim(self, pid: int, is_ours: Callable[[], object]) -> Process | None:
        identity = self._identify(pid)
        return self._process(pid, identity) if identity is not None and is_ours() else None

    def pids(self) -> Sequence[int]:
        from .installed import psutil

        own = os.getpid()
        return [pid for pid in psutil.pids() if pid not in (own, 0)]

    def mark_of(self, pid: int) -> Mark | None:
        from .installed import psutil

        try:
            process = psutil.Process(pid)
            foreign = process.uids().real != os.geteuid()
            return Mark.parse(process.environ().get(MARK_VARIABLE, ""), foreign=foreign)
        except (psutil.Error, OSError):
            return None

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
        from .installed import psutil

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

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        from .installed import psutil

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
        from .installed import psutil

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

    def reap_orphans(self) -> None:
        pass
