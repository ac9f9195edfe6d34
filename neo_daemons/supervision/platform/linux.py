"""Linux: pidfds report an exit at once, identify a process reliably, and send signals to no other process."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from neo_daemons import procfs
from neo_daemons.records import Identity

from . import spawning
from .contract import MARK_VARIABLE, Mark, NotOurs, Process, SpawnSpec, Unverifiable, Usage
from .pidfd import PidfdProcess, has_ended
from .posix import PosixPlatform

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)."""
_MARKED = MARK_VARIABLE.encode() + b"="


def _shares_our_mounts(pid: int) -> bool:
    """Whether a path means the same file to a process as to us, which it may not in a container."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
    except OSError:
        return False


class LinuxPlatform(PosixPlatform):
    """See `contract.Platform`."""

    def __init__(self) -> None:
        self._children: weakref.WeakValueDictionary[int, PidfdProcess] = weakref.WeakValueDictionary()
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")

    @staticmethod
    def is_supported() -> bool:
        """Whether this kernel has pidfds (5.3), and this Python was built to use them."""
        try:
            os.close(os.pidfd_open(os.getpid()))
        except (OSError, AttributeError):
            return False
        return True

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
        pidfd = os.pidfd_open(os.getpid())
        try:
            return self._identity(os.getpid(), pidfd)
        finally:
            os.close(pidfd)

    def spawn(self, spec: SpawnSpec) -> Process:
        popen = spawning.spawn(spec)
        # An unreaped child keeps its pid, so this cannot open another process.
        pidfd = os.pidfd_open(popen.pid)
        process = PidfdProcess(popen.pid, self._identity(popen.pid, pidfd), pidfd, popen)
        self._children[popen.pid] = process
        return process

    def open(self, pid: int, identity: Identity) -> Process | None:
        process = self._open(pid)
        if process is None:
            return None
        if not process.identity.matches(identity):
            process.close()
            raise NotOurs(f"pid {pid} is another process now ({self.describe(pid)})")
        return process

    def _open(self, pid: int) -> PidfdProcess | None:
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
        return PidfdProcess(pid, identity, pidfd, None)

    def _identity(self, pid: int, pidfd: int) -> Identity:
        found = os.fstat(pidfd)
        inode = found.st_ino if found.st_dev != self._anonymous_device else None
        stat = procfs.stat(pid)
        if stat is None:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        return Identity(boot_id=procfs.boot_id(), start_time=float(stat[19]), inode=inode)

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process]:
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

        found = (self._claim(pid, lambda pid=pid: holds(pid)) for pid in self._pids() if holds(pid))  # type: ignore[misc]
        return [process for process in found if process is not None]

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        links = {f"{file}{procfs.DELETED}" for file in files}
        return _shares_our_mounts(pid) and not links.isdisjoint(procfs.open_files(pid))

    def oom_kills(self) -> int | None:
        try:
            with open("/proc/vmstat") as file:
                return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), None)
        except OSError:
            return None

    def _claim(self, pid: int, is_ours: Callable[[], bool]) -> Process | None:
        try:
            process = self._open(pid)
        except Unverifiable:
            return None
        if process is not None and not is_ours():
            process.close()
            return None
        return process

    def _pids(self) -> Iterable[int]:
        own = os.getpid()
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]

    def mark_of(self, pid: int) -> Mark | None:
        # Each exit asks this of every process on the machine, so it makes no object that it does not need.
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                environ = file.read()
            start = 0 if environ.startswith(_MARKED) else environ.find(b"\0" + _MARKED) + 1
            if not environ.startswith(_MARKED, start) or os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                return None
        except OSError:
            return None
        value = environ[start + len(_MARKED) :].partition(b"\0")[0]
        return Mark.parse(os.fsdecode(value))

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
                queue.extend(self._children_of(current))
            if seen:
                result[pid] = Usage(ticks / self._ticks, pages * self._page)
        return result

    @staticmethod
    def _children_of(pid: int) -> list[int]:
        children: list[int] = []
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            return children  # it exited meanwhile
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    children += map(int, file.read().split())
            except OSError:
                continue  # this thread ended, or the kernel lacks CONFIG_PROC_CHILDREN: only the main process counts
        return children

    def become_subreaper(self) -> bool:
        import asyncio
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            return False
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_orphans)
        return True

    def _reap_orphans(self) -> None:
        """Reap the processes that were re-parented to us. Our own children are left to the pidfds that watch them."""
        for pid in self._children_of(os.getpid()):
            if pid in self._children:
                continue
            stat = procfs.stat(pid)
            if stat is not None and stat[0] == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
