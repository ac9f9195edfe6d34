"""Linux: pidfds report an exit at once, identify a process reliably, and send signals to no other process.

A kernel before 5.3 has none, and a container may refuse them. Then processes are known by their numbers, as on any
POSIX system, and everything else is as usual.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neo_daemons import procfs
from neo_daemons.records import Identity

from . import spawning
from .common import mark_in, resolve_local
from .contract import FileChanges, Mark, NotOurs, Process, SpawnSpec, Unverifiable, Usage
from .pidfd import ExitsPerTurn, PidfdProcess, has_ended
from .posix import PosixPlatform

if TYPE_CHECKING:
    import asyncio

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)."""
REAP_S = 0.05
"""Time from the exit of a daemon until what it has left is reaped: first, it is restarted."""


def _shares_our_mounts(pid: int) -> bool:
    """Whether a path means the same file to a process as to us, which it may not in a container."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
    except OSError:
        return False


class LinuxPlatform(PosixPlatform):
    """See `contract.Platform`."""

    def __init__(self, *, pidfds: bool = True) -> None:
        super().__init__()
        self._has_pidfds = pidfds
        self._exits = ExitsPerTurn()
        self._spawned: set[int] = set()
        """The pids of the children that we spawned and watch. No other process can have them."""
        self._is_alone = False
        """Whether this process does nothing but supervise."""
        self._is_subreaper = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop of a subreaper."""
        self._reaping: asyncio.TimerHandle | None = None
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    @property
    def name(self) -> str:
        return "linux" if self._has_pidfds else "linux-without-pidfds"

    @staticmethod
    def lack_of_pidfds() -> str | None:
        """Return why there are no pidfds; None if there are. Containers may refuse one of the two calls."""
        if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
            return "this Python was built without pidfds"
        try:
            pidfd = os.pidfd_open(os.getpid())
        except OSError as error:
            return f"pidfd_open: {error.strerror}"
        try:
            signal.pidfd_send_signal(pidfd, 0)
        except OSError as error:
            return f"pidfd_send_signal: {error.strerror}"
        finally:
            os.close(pidfd)
        return None

    @functools.cached_property
    def _anonymous_device(self) -> int:
        """Device of the one inode that all anonymous descriptors share. Before Linux 6.9 a pidfd is one of them;
        since then it has a file system of its own, in which no inode number is used twice."""
        descriptor = os.eventfd(0)
        try:
            return os.fstat(descriptor).st_dev
        finally:
            os.close(descriptor)

    def boot_id(self) -> str:
        return procfs.boot_id()

    def age_s(self, identity: Identity) -> float:
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - identity.start_time / self._ticks, 0.0)

    def own_identity(self) -> Identity:
        if not self._has_pidfds:
            return super().own_identity()
        pidfd = os.pidfd_open(os.getpid())
        try:
            return self._identity(os.getpid(), pidfd)
        finally:
            os.close(pidfd)

    def spawn(self, spec: SpawnSpec) -> Process:
        popen = spawning.spawn(spec, close_others=not self._is_alone)
        if not self._has_pidfds:
            self._spawned.add(popen.pid)
            return self._child(popen, self._forget)
        # An unreaped child keeps its pid, so this cannot open another process.
        pidfd = os.pidfd_open(popen.pid)
        self._spawned.add(popen.pid)
        return PidfdProcess(popen.pid, self._identity(popen.pid, pidfd), pidfd, self._exits, popen, self._forget)

    def _forget(self, pid: int) -> None:
        """Note that another process may have this pid now. What the process has left is reaped soon."""
        self._spawned.discard(pid)
        if self._reaping is None and self._loop is not None and not self._loop.is_closed():
            self._reaping = self._loop.call_later(REAP_S, self.reap_orphans)

    def open(self, pid: int, identity: Identity) -> Process | None:
        process = self._open(pid)
        if process is None:
            return None
        if not process.identity.matches(identity):
            process.close()
            raise NotOurs(f"pid {pid} is another process now ({self.describe(pid)})")
        return process

    def _open(self, pid: int) -> Process | None:
        if not self._has_pidfds:
            try:
                found = self._identify(pid)
            except procfs.ProcfsUnavailable as error:
                raise Unverifiable(str(error)) from None
            return self._process(pid, found) if found is not None else None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            # EINVAL: the id of a thread. ESRCH: gone.
            if error.errno in (errno.ESRCH, errno.EINVAL):
                return None
            raise Unverifiable(f"pid {pid}: cannot be opened ({error.strerror})") from None
        if has_ended(pidfd):
            os.close(pidfd)
            return None
        try:
            identity = self._identity(pid, pidfd)
        except ProcessLookupError:
            os.close(pidfd)
            return None
        return PidfdProcess(pid, identity, pidfd, self._exits, None)

    def _identity(self, pid: int, pidfd: int) -> Identity:
        found = os.fstat(pidfd)
        inode = found.st_ino if found.st_dev != self._anonymous_device else None
        stat = procfs.stat(pid)
        if stat is None:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        return Identity(boot_id=procfs.boot_id(), start_time=float(stat[19]), inode=inode)

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process] | None:
        wanted = f"{lock}{procfs.DELETED}"
        try:
            file = os.stat(lock)
        except OSError:
            if not deleted:
                return []

        def holds(pid: int) -> bool:
            try:
                numbers = os.listdir(f"/proc/{pid}/fd")
            except OSError:
                return False  # it exited, or belongs to another user and cannot hold our lock
            return (not deleted or _shares_our_mounts(pid)) and any(holds_by(f"/proc/{pid}", one) for one in numbers)

        def holds_by(process: str, number: str) -> bool:
            try:
                link = os.readlink(f"{process}/fd/{number}")
                if deleted:
                    found = link == wanted
                else:
                    # The name first: stat hangs if the file system does. The path alone is no proof, since the
                    # directory may be mounted in several places.
                    found = link.endswith(f"/{lock.name}") and os.path.samestat(os.stat(f"{process}/fd/{number}"), file)
                if not found:
                    return False
                # An open file is not enough: the lock belongs to one open file description.
                with open(f"{process}/fdinfo/{number}") as info:
                    return "FLOCK" in info.read()
            except OSError:
                return False  # closed meanwhile; the lock may come after it

        found = (self._claim(pid, lambda pid=pid: holds(pid)) for pid in self.pids() if holds(pid))  # type: ignore[misc]
        return [process for process in found if process is not None]

    def listens(self, pid: int, port: int, host: str) -> bool:
        try:
            inode = procfs.listening_socket(str(resolve_local(host)), port)
        except OSError:
            return False  # the name does not resolve
        return inode is not None and f"socket:[{inode}]" in procfs.open_files(pid)

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        links = {f"{file}{procfs.DELETED}" for file in files}
        return _shares_our_mounts(pid) and not links.isdisjoint(procfs.open_files(pid))

    def oom_kills(self) -> int | None:
        try:
            _, found, count = procfs.read("/proc/vmstat").partition(b"\noom_kill ")
        except OSError:
            return None
        return int(count.partition(b"\n")[0]) if found else None

    def _claim(self, pid: int, is_ours: Callable[[], object]) -> Process | None:
        try:
            process = self._open(pid)
        except Unverifiable:
            return None
        if process is not None and not is_ours():
            process.close()
            return None
        return process

    def pids(self) -> Sequence[int]:
        own = os.getpid()
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != own]

    def newest_pid(self) -> int | None:
        return procfs.newest()

    def orphans(self) -> Sequence[int] | None:
        if not self._is_subreaper:
            return None
        found = self._adopted_children()
        for pid in found:  # grows meanwhile
            found += self._children_of(pid)
        return found

    def _adopted_children(self) -> list[int]:
        """Return our children except those that we spawned as daemons."""
        # An orphan gets the first living thread of a subreaper as its parent: find_new_reaper in kernel/exit.c.
        return list(set(self._children_of(os.getpid(), threads=1)) - self._spawned)

    def mark_of(self, pid: int) -> Mark | None:
        try:
            mark = mark_in(procfs.environ(pid))
            return None if mark is None else Mark.parse(mark, foreign=procfs.user(pid) != os.geteuid())
        except OSError:
            return None

    def file_changes(self) -> FileChanges | None:
        from .inotify import Inotify

        try:
            return Inotify()
        except OSError:
            return None

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        result = {}
        for pid in pids:
            ticks, pages, seen = 0, 0, False
            queue = [pid]
            while queue:
                current = queue.pop()
                stat = procfs.stat(current)
                if stat is None:
                    continue
                ticks += int(stat[11]) + int(stat[12])
                pages += int(stat[21])
                seen = True
                queue.extend(self._children_of(current, threads=int(stat[17])))
            if seen:
                result[pid] = Usage(ticks / self._ticks, pages * self._page)
        return result

    @staticmethod
    def _children_of(pid: int, threads: int | None = None) -> list[int]:
        """Return the children of a process. `threads` is how many threads it has, if that is known."""
        children: list[int] = []
        try:
            # A single thread has the id of its process.
            tasks = [str(pid)] if threads == 1 else os.listdir(f"/proc/{pid}/task")
        except OSError:
            return children  # it exited meanwhile
        for task in tasks:
            try:
                children += map(int, procfs.read(f"/proc/{pid}/task/{task}/children").split())
            except OSError:
                continue  # this thread ended, or the kernel lacks CONFIG_PROC_CHILDREN: only the main process counts
        return children

    def become_subreaper(self) -> bool:
        import asyncio
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            return False
        spawning.keep_descriptors_to_ourselves()
        self._is_alone = True
        # Without CONFIG_PROC_CHILDREN the kernel does not list them.
        self._is_subreaper = Path(f"/proc/self/task/{threading.get_native_id()}/children").exists()
        self._loop = asyncio.get_running_loop()
        if self._has_pidfds:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, the kernel keeps exit codes to itself
        else:
            super().become_subreaper()
        return True

    def reap_orphans(self) -> None:
        # Not by SIGCHLD, which would wake the loop in the midst of a restart: pidfds report what we spawned.
        if self._loop is None:
            return
        self._reaping = None
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in self._spawned:
                break  # it hides others
            with contextlib.suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)
        for pid in self._adopted_children():
            stat = procfs.stat(pid)
            if stat is not None and stat[0] == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
