"""The part of kqueue(2) that the product uses, for Linux: EVFILT_PROC by pidfds and epoll, by the rules of XNU.

It stands in for a kernel that is not here, so that the product's code for it runs. ``python -m tests.kqueue_shim`` has
every process of this interpreter's environment install it for which ``NEO_DAEMONS_PLATFORM=kqueue`` is set.

It imports nothing of the project, since what is under test must not decide what the kernel says, and little else, since
all these processes import it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import select
import selectors  # noqa: F401 - before `install`: asyncio would take the shim for its event loops
import signal
import struct
import weakref
from collections.abc import Callable, Iterable

KQ_FILTER_PROC = -5
KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ONESHOT, KQ_EV_EOF = 0x1, 0x2, 0x10, 0x8000
KQ_NOTE_EXIT, NOTE_EXITSTATUS = 0x80000000, 0x04000000
"""bsd/sys/event.h of XNU."""
ALWAYS_TELLS = False
"""Tests set this, to have the exit status told without being asked for, as on FreeBSD."""
STATE, EXIT_CODE = 0, 49
"""Positions among the fields of /proc/PID/stat that follow the name."""
PIDFD_INFO = struct.Struct("=QQIIIIIIIIIIIi")
PIDFD_INFO_EXIT = 1 << 3
PIDFD_GET_INFO = (3 << 30) | (PIDFD_INFO.size << 16) | (0xFF << 8) | 11
"""include/uapi/linux/pidfd.h."""


class kevent:
    """See `select.kevent`."""

    def __init__(self, ident: int, kind: int, flags: int = KQ_EV_ADD, fflags: int = 0, data: int = 0) -> None:
        self.ident, self.filter, self.flags, self.fflags, self.data = ident, kind, flags, fflags, data


class kqueue:
    """See `select.kqueue`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._notes: dict[int, tuple[int, int]] = {}
        """Of each watched pid: its pidfd, and what is asked for."""
        self.fileno = self._epoll.fileno
        self._finalizer = weakref.finalize(self, _close, self._epoll, self._notes)

    def control(self, changes: Iterable[kevent] | None, max_events: int, timeout: float | None = None) -> list[kevent]:
        for change in changes or ():
            assert change.filter == KQ_FILTER_PROC
            if change.flags & KQ_EV_DELETE:
                self._drop(change.ident)
            else:
                assert change.flags & KQ_EV_ONESHOT
                self._add(change)
        ready = self._epoll.poll(timeout, max_events) if max_events else ()
        pids = {pidfd: pid for pid, (pidfd, _) in self._notes.items()}
        return [self._fired(pids[pidfd]) for pidfd, _ in ready]

    def _add(self, change: kevent) -> None:
        if change.ident in self._notes:  # it is changed, whatever has become of the process
            self._notes[change.ident] = self._notes[change.ident][0], change.fflags
            return
        pidfd = os.pidfd_open(change.ident)  # ESRCH
        try:
            if _has_exited(pidfd):  # filt_procattach finds no zombie
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            if change.fflags & NOTE_EXITSTATUS and not _may_signal(pidfd):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._epoll.register(pidfd, select.EPOLLIN)
        except OSError:
            os.close(pidfd)
            raise
        self._notes[change.ident] = pidfd, change.fflags

    def _drop(self, pid: int) -> None:
        if pid not in self._notes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        pidfd, _ = self._notes.pop(pid)
        self._epoll.unregister(pidfd)
        os.close(pidfd)

    def _fired(self, pid: int) -> kevent:
        pidfd, asked = self._notes[pid]
        status = _exit_status(pid, pidfd) if asked & NOTE_EXITSTATUS or ALWAYS_TELLS else None
        self._drop(pid)
        # XNU always knows the status; Linux before 6.15 only of a zombie.
        told = KQ_NOTE_EXIT | (NOTE_EXITSTATUS if status is not None else 0)
        return kevent(pid, KQ_FILTER_PROC, KQ_EV_ADD | KQ_EV_ONESHOT | KQ_EV_EOF, asked & told, status or 0)

    def close(self) -> None:
        self._finalizer()


def _close(epoll: select.epoll, notes: dict[int, tuple[int, int]]) -> None:
    for pidfd, _ in notes.values():
        os.close(pidfd)
    notes.clear()
    epoll.close()


def _has_exited(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _may_signal(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def _exit_status(pid: int, pidfd: int) -> int | None:
    """The status of a process that has exited, as wait(2) returns it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[STATE] == b"Z":
            return int(fields[EXIT_CODE])
    except OSError:
        pass  # it has been reaped
    buffer = bytearray(PIDFD_INFO.pack(PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    mask, *_, status = PIDFD_INFO.unpack(buffer)
    return int(status) if mask & PIDFD_INFO_EXIT else None


NAMES = (
    "kevent",
    "kqueue",
    "KQ_FILTER_PROC",
    "KQ_EV_ADD",
    "KQ_EV_DELETE",
    "KQ_EV_ONESHOT",
    "KQ_EV_EOF",
    "KQ_NOTE_EXIT",
)
"""What this puts into the module `select`."""


def install(put: Callable[[str, object], None] | None = None) -> None:
    """Have the module `select` offer kqueue. `put` sets one name of it."""
    put = put or functools.partial(setattr, select)
    for name in NAMES:
        put(name, globals()[name])


def main() -> None:
    """Have the processes of this interpreter's environment install the shim."""
    import shutil
    import sysconfig

    site = sysconfig.get_path("purelib")
    shutil.copyfile(__file__, f"{site}/kqueue_shim.py")
    with open(f"{site}/kqueue_shim.pth", "w") as file:
        file.write(
            "import os; os.environ.get('NEO_DAEMONS_PLATFORM') == 'kqueue' and __import__('kqueue_shim').install()\n"
        )


if __name__ == "__main__":
    main()
