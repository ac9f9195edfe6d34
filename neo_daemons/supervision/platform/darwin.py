"""macOS: exits by kqueue(2); who a process is, what it holds and where it listens by libproc.

The rules are those of the XNU sources 11417 (macOS 15). This was never run on macOS: the tests run it on a libSystem
and a kqueue that stand in for them.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from neo_daemons import addresses, libproc
from neo_daemons.records import Identity, Unseen

from .common import mark_in, resolve_local
from .contract import Mark, Process
from .kqueue import KqueuePlatform, KqueueProcess

AUDIT_TOKEN = struct.Struct("=8I")
"""``audit_token_t`` of mach/message.h: the sixth word is the pid, the eighth its version."""
EXECS = 3
"""How often a signal is sent again to a process that calls exec(2) while we look at it."""


def lack_of_libproc() -> str | None:
    """Return why libproc cannot be used; None if it can."""
    try:
        libproc.boot_id()
        return None if libproc.identify(os.getpid()) is not None else "libproc does not show this process"
    except (Unseen, AttributeError) as error:
        return str(error)


def in_the_way(host: str) -> list[str]:
    """Return the addresses at which a listener gets connections that are meant for `host`, besides `host` itself: the
    wildcards and, for a wildcard, the loopback addresses."""
    wildcards = ["::"] if ":" in host else ["0.0.0.0", "::"]  # noqa: S104 - nothing is listened at
    others = [*wildcards, "::1", "127.0.0.1"] if addresses.parse(host).is_unspecified else wildcards
    return [address for address in others if address != host]


class DarwinProcess(KqueueProcess):
    """A process whose unique id is known."""

    def signal(self, signum: int) -> bool:
        # The kernel compares the version of the pid, which no other process has; so there is no moment between the
        # proof and the signal. It was added to a function that older systems lack.
        send = getattr(libproc.library(), "proc_signal_with_audittoken", None)
        if send is None or not signum:
            return super().signal(signum)
        for _ in range(EXECS):
            try:
                unique, version = libproc.unique(self.pid)
            except ProcessLookupError:
                return False
            if unique != self.identity.inode:
                return False
            token = AUDIT_TOKEN.pack(0, 0, 0, 0, 0, self.pid, 0, version & 0xFFFFFFFF)
            error = send(token, signum)
            if not error:
                return True
            if error == errno.EPERM:
                raise PermissionError(error, os.strerror(error))
            if error != errno.ESRCH:  # a kernel that has the function and not the call
                return super().signal(signum)
        return False


class DarwinPlatform(KqueuePlatform):
    """See `contract.Platform`."""

    process_type = DarwinProcess

    @property
    def name(self) -> str:
        return "darwin"

    def boot_id(self) -> str:
        return libproc.boot_id()

    def age_s(self, identity: Identity) -> float:
        return max(time.time() - identity.start_time, 0.0)

    def _identify(self, pid: int) -> Identity | None:
        return libproc.identify(pid)

    def pids(self) -> Sequence[int]:
        own = os.getpid()
        return [pid for pid in libproc.pids() if pid != own]

    def mark_of(self, pid: int) -> Mark | None:
        try:
            mark = mark_in(libproc.environ(pid))
            return None if mark is None else Mark.parse(mark, foreign=libproc.user(pid) != os.geteuid())
        except OSError:
            return None

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process] | None:
        if deleted:
            # A deleted file may have lost its path, so that nobody is found does not mean that there is nobody.
            return self._claim_all(lambda pid: str(lock) in libproc.deleted_files(pid, locked=True)) or None
        try:
            wanted = os.stat(lock)
        except OSError:
            return []
        return self._claim_all(lambda pid: libproc.has_locked(pid, wanted))

    def _claim_all(self, is_meant: Callable[[int], object]) -> list[Process]:
        found = (self._claim(pid, lambda pid=pid: is_meant(pid)) for pid in self.pids() if is_meant(pid))  # type: ignore[misc]
        return [process for process in found if process is not None]

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        return not {str(file) for file in files}.isdisjoint(libproc.deleted_files(pid))

    def listens(self, pid: int, port: int, host: str) -> bool:
        try:
            return libproc.listens(pid, str(resolve_local(host)), port)
        except OSError:  # the name does not resolve
            return False

    def _listeners(self, port: int) -> Iterator[tuple[int | None, str]]:
        for pid in libproc.pids():
            for _, bound, number in libproc.listeners(pid):
                if number == port:
                    yield pid, str(bound)

    def port_is_free(self, host: str, port: int) -> bool:
        if not super().port_is_free(host, port):
            return False
        # With SO_REUSEADDR one user may listen at an address beside the wildcard (in_pcbbind in bsd/netinet/in_pcb.c).
        # Then one of the two gets nothing, so those addresses must be free too.
        return not any(self._is_taken(other, port) for other in in_the_way(str(resolve_local(host))))

    def _is_taken(self, address: str, port: int) -> bool:
        try:
            self._bind(address, port).close()
        except OSError as error:  # EACCES, EADDRNOTAVAIL: nobody here can listen there
            return error.errno == errno.EADDRINUSE
        return False
