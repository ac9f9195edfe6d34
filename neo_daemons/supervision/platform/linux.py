"""Linux: pidfds tell an exit at once, name a process beyond doubt, and carry signals that cannot go astray."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import select
import signal
import struct
import subprocess
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from neo_daemons import procfs
from neo_daemons.records import Identity

from .contract import MARK_VARIABLE, ExitStatus, Mark, NotOurs, Process, SpawnSpec, Unverifiable, Usage
from .posix import PosixPlatform, exit_status, let_go

PIDFD_SIGNAL_PROCESS_GROUP = 1 << 2
"""Flag of pidfd_send_signal(2), Linux 6.9, include/uapi/linux/pidfd.h."""
PIDFD_INFO_EXIT = 1 << 3
"""Mask bit of the ioctl below, Linux 6.15, same header."""
PIDFD_INFO = struct.Struct("=QQIIIIIIIIIIIi")
"""struct pidfd_info in its first, 64-byte version: mask, cgroupid, pid, tgid, ppid, eight ids, exit_code."""
PIDFD_GET_INFO = (3 << 30) | (PIDFD_INFO.size << 16) | (0xFF << 8) | 11
"""_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)."""
TRACED_POLL_S = 0.05
PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)."""
REAPED_SOON_S = (0.0005, 0.001, 0.002)
REAPED_LATE_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""The kernel tells the exit code of an adopted process once its parent has reaped it, which is pid 1 and may take a
second. Asked again after each of the first, the exit is reported without a code, and asked on for that."""


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def exit_status_of_stranger(pidfd: int) -> ExitStatus | None:
    """How a process that is not our child ended; None if the kernel does not say (yet)."""
    buffer = bytearray(PIDFD_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, buffer)
    except OSError:
        return None  # no such ioctl, or it has not been reaped
    mask, *_, code = PIDFD_INFO.unpack(buffer)
    return exit_status(os.waitstatus_to_exitcode(code)) if mask & PIDFD_INFO_EXIT else None


def _ask_late(
    loop: asyncio.AbstractEventLoop, pidfd: int, on_learned: Callable[[ExitStatus], None], delays: Sequence[float]
) -> None:
    status = exit_status_of_stranger(pidfd)
    if status is None and delays:
        loop.call_later(delays[0], _ask_late, loop, pidfd, on_learned, delays[1:])
        return
    os.close(pidfd)
    if status is not None:
        on_learned(status)


DELETED = " (deleted)"
"""What the kernel puts behind the name of an open file that has been deleted: d_path in fs/d_path.c."""


def _sees_what_we_see(pid: int) -> bool:
    """Whether a path means the same to a process as to us: in a container it may not."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
    except OSError:
        return False


_MARKED = MARK_VARIABLE.encode() + b"="


class LinuxProcess(Process):
    """A process held by a pidfd."""

    def __init__(self, pid: int, identity: Identity, pidfd: int, popen: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.identity = identity
        self._pidfd = pidfd
        self._popen = popen
        self._on_exit: Callable[[ExitStatus], None] | None = None
        self._on_learned: Callable[[ExitStatus], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer = weakref.finalize(self, os.close, pidfd)

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        self._on_exit = on_exit
        self._on_learned = on_learned
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._readable)

    def _readable(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._pidfd)
        if self._popen is not None:
            self._reap()
        else:
            self._ask_soon(REAPED_SOON_S)

    def _ask_soon(self, delays: Sequence[float]) -> None:
        if self._on_exit is None or self._loop is None:
            return
        status = exit_status_of_stranger(self._pidfd)
        if status is None and delays:
            self._loop.call_later(delays[0], self._ask_soon, delays[1:])
            return
        if status is None and self._on_learned is not None:
            # On a descriptor of its own: this process will be closed as soon as its end is reported.
            with contextlib.suppress(OSError):  # no descriptor to be had: then it stays unknown
                _ask_late(self._loop, os.dup(self._pidfd), self._on_learned, REAPED_LATE_S)
        self._deliver(status or ExitStatus())

    def _reap(self) -> None:
        if self._popen is None or self._loop is None or self._on_exit is None:
            return
        code = self._popen.poll()
        if code is None:  # it has ended, and a tracer (a suspended strace, a debugger) keeps it from us
            self._loop.call_later(TRACED_POLL_S, self._reap)
        else:
            self._deliver(exit_status(code))

    def _deliver(self, status: ExitStatus) -> None:
        on_exit, self._on_exit = self._on_exit, None
        if on_exit is not None:
            on_exit(status)

    def is_alive(self) -> bool:
        return self._finalizer.alive and not has_ended(self._pidfd)

    def is_stopped(self) -> bool:
        stat = procfs.stat(self.pid)
        return self.is_alive() and stat is not None and stat[0] == "T"

    def signal(self, signum: int) -> bool:
        return self._send(signum, 0)

    def signal_group(self, signum: int) -> bool:
        try:
            # The kernel follows the pidfd to the group itself, also when its leader has been reaped: no number is
            # looked up that could have been given to somebody else.
            return self._send(signum, PIDFD_SIGNAL_PROCESS_GROUP)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Linux < 6.9: by number, and only while the leader keeps that number taken.
        if not self._send(0, 0):
            return False
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def _send(self, signum: int, flags: int) -> bool:
        if not self._finalizer.alive:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, signum, None, flags)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        self._on_exit = None
        if self._loop is not None and self._finalizer.alive and not self._loop.is_closed():
            self._loop.remove_reader(self._pidfd)
        self._finalizer()
        if self._popen is not None:
            let_go(self._popen)


class LinuxPlatform(PosixPlatform):
    """See `contract.Platform`."""

    def __init__(self) -> None:
        self._children: weakref.WeakValueDictionary[int, LinuxProcess] = weakref.WeakValueDictionary()
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
        popen = self._popen(spec)
        # An unreaped child keeps its pid: this cannot open anybody else.
        pidfd = os.pidfd_open(popen.pid)
        process = LinuxProcess(popen.pid, self._identity(popen.pid, pidfd), pidfd, popen)
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

    def _open(self, pid: int) -> LinuxProcess | None:
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
        return LinuxProcess(pid, identity, pidfd, None)

    def _identity(self, pid: int, pidfd: int) -> Identity:
        found = os.fstat(pidfd)
        inode = found.st_ino if found.st_dev != self._anonymous_device else None
        stat = procfs.stat(pid)
        if stat is None:
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}")
        return Identity(boot_id=procfs.boot_id(), start_time=float(stat[19]), inode=inode)

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process]:
        wanted = f"{lock}{DELETED}"
        try:
            file = os.stat(lock)
        except OSError:
            if not deleted:
                return []

        def holds(pid: int) -> bool:
            try:
                numbers = os.listdir(f"/proc/{pid}/fd")
            except OSError:
                return False  # it ended, or it is another user's and cannot hold a lock of ours
            return (not deleted or _sees_what_we_see(pid)) and any(holds_by(f"/proc/{pid}", one) for one in numbers)

        def holds_by(process: str, number: str) -> bool:
            try:
                link = os.readlink(f"{process}/fd/{number}")
                if deleted:
                    found = link == wanted
                else:
                    # The name first: to look at a file may take for ever where its file system hangs. The path does
                    # not tell: the directory may be mounted in several places.
                    found = link.endswith(f"/{lock.name}") and os.path.samestat(os.stat(f"{process}/fd/{number}"), file)
                if not found:
                    return False
                # Open is not enough: only who has the lock's own description holds it.
                with open(f"{process}/fdinfo/{number}") as info:
                    return "FLOCK" in info.read()
            except OSError:
                return False  # closed meanwhile; the lock may come after it

        found = (self._claim(pid, lambda pid=pid: holds(pid)) for pid in self._pids() if holds(pid))  # type: ignore[misc]
        return [process for process in found if process is not None]

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        links = {f"{file}{DELETED}" for file in files}
        return _sees_what_we_see(pid) and not links.isdisjoint(procfs.open_files(pid))

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
        # All processes of the machine are asked this after each exit: no object more than it takes.
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
            return children  # it ended while we looked
        for thread in threads:
            try:
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    children += map(int, file.read().split())
            except OSError:
                continue  # this thread ended, or the kernel lacks CONFIG_PROC_CHILDREN: the main process counts alone
        return children

    def become_subreaper(self) -> bool:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            return False
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_orphans)
        return True

    def _reap_orphans(self) -> None:
        """Reap what was re-parented to us. Our own children are left to the pidfd that watches them."""
        for pid in self._children_of(os.getpid()):
            if pid in self._children:
                continue
            stat = procfs.stat(pid)
            if stat is not None and stat[0] == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
