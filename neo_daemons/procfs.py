"""Read what Linux shows of processes in ``/proc``. This opens no handle on a process and changes nothing. Code that is
not only for Linux asks `processes`.

If ``/proc`` is missing or unreadable, functions raise `ProcfsUnavailable`: the process may still be running.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from . import addresses
from .records import Identity, Unseen
from .unpatched import Unpatched, read_file

LISTENING = "0A"
"""State of a socket in /proc/net/tcp, include/net/tcp_states.h."""
GONE = frozenset({"Z", "X", "x"})
"""States of a process that has exited, proc(5)."""
STOPPED = frozenset({"T", "t"})
STAT_BYTES = 4096
"""More than /proc/PID/stat can hold: some 50 numbers and a short name."""
READ_BYTES = 16_384
"""Read at a time: more than most files of ``/proc`` hold."""
DELETED = " (deleted)"
"""The kernel's suffix for the name of an open file that has been deleted: d_path in fs/d_path.c."""
_LITTLE = sys.byteorder == "little"


class ProcfsUnavailable(Unseen):
    """``/proc`` is not available; ``str()`` says why."""


@functools.cache
def boot_id() -> str:
    """Return the id of this boot.

    Raises:
        ProcfsUnavailable: there is no ``/proc``, or it shows other processes than ours.
    """
    why = fault()
    if why is not None:
        raise ProcfsUnavailable(why)
    try:
        return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError as error:
        raise ProcfsUnavailable(f"this system does not report its boot id ({error.strerror})") from None


def fault() -> str | None:
    """Return why ``/proc`` cannot be used; None if it can. A container may lack it, or have that of its host, where
    each number means another process."""
    try:
        own = Unpatched.readlink("/proc/self")
    except OSError as error:
        return f"/proc is not mounted ({error.strerror})"
    if own != str(os.getpid()):
        return f"/proc is that of another pid namespace, in which this process is {own} and not {os.getpid()}"
    return None


def user(pid: int) -> int:
    """Return the id of the real user of a process: of whoever started it, and wrote its environment. The owner of
    ``/proc/PID`` is the effective user, which is root for a setuid program.

    Raises:
        OSError: there is no such process.
    """
    for line in read_file(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    raise OSError(errno.ESRCH, "no user in its status")


@functools.cache
def machine() -> str:
    """Identify what has the ports that this process sees: a boot, and a network namespace of it."""
    try:
        return f"{boot_id()} {Unpatched.readlink('/proc/self/ns/net')}"
    except (ProcfsUnavailable, OSError):
        return os.uname().nodename


def pid_space() -> str:
    """Identify the processes that see each other: a boot, and a pid namespace of it."""
    try:
        return f"{boot_id()} {Unpatched.readlink('/proc/self/ns/pid')}"
    except (ProcfsUnavailable, OSError):
        return os.uname().nodename


def newest() -> int | None:
    """Return the id that the newest process or thread got, whether it still runs or not; None if that is unknown. As
    long as it stays the same, none was created. proc(5): the last field of /proc/loadavg."""
    try:
        return int(read("/proc/loadavg").rpartition(b" ")[2]) or None
    except (OSError, ValueError):
        return None


def read(path: str) -> bytes:
    """Return the contents of a file of ``/proc``.

    Raises:
        OSError: it cannot be read.
    """
    # Not by `open`, which takes twice as many system calls: these are read in each restart.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = piece = os.read(descriptor, READ_BYTES)
        while piece and (piece := os.read(descriptor, READ_BYTES)):
            found += piece
        return found
    finally:
        os.close(descriptor)


def environ(pid: int) -> bytes:
    """Return the environment with which a process was started, as ``NAME=value`` that end with zero bytes.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.read(descriptor, READ_BYTES)
        while len(found) % READ_BYTES == 0 and (more := os.read(descriptor, READ_BYTES)):
            found += more
        return found
    finally:
        os.close(descriptor)


def stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third on; None if it has exited. proc(5): [0] state, [1] ppid,
    [2] pgrp, [3] session, [11] utime, [12] stime, [17] threads, [19] starttime, [21] rss in pages."""
    try:
        # Not by `open`, which takes twice as many system calls: this is asked of many processes.
        descriptor = Unpatched.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = Unpatched.pread(descriptor, STAT_BYTES, 0)
        finally:
            Unpatched.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the name, may hold spaces and parentheses.
    return text[text.rindex(b")") + 2 :].decode("ascii").split()


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that has this pid now; None if there is none, or it is a zombie. It lacks the
    inode of a pidfd, which requires a handle.

    Raises:
        ProcfsUnavailable: there is no ``/proc``, or it is hidden.
    """
    boot = boot_id()
    fields = _stat_or_raise(pid)
    if fields is None or fields[0] in GONE:
        return None
    return Identity(boot_id=boot, start_time=float(fields[19]))


def is_stopped(pid: int) -> bool:
    """Return whether a signal or a debugger has suspended the process; False if it is hidden."""
    try:
        fields = stat(pid)
    except OSError:  # hidden
        return False
    return fields is not None and fields[0] in STOPPED


def started_at(pid: int) -> float | None:
    """Return when the process started, in seconds since the epoch; None if it has exited. It may be a second off, since
    the kernel reports its boot in whole seconds.

    Raises:
        ProcfsUnavailable: there is no ``/proc``, or it is hidden.
    """
    fields = _stat_or_raise(pid)
    if fields is None:
        return None
    with open("/proc/stat") as file:
        booted = next(int(line.split()[1]) for line in file if line.startswith("btime "))
    return booted + float(fields[19]) / os.sysconf("SC_CLK_TCK")


def command(pid: int) -> tuple[str, ...]:
    """Return the command line of the process; empty if it has exited or is hidden."""
    try:
        return tuple(os.fsdecode(part) for part in read_file(f"/proc/{pid}/cmdline").split(b"\0")[:-1])
    except OSError:
        return ()


def environment_holds(pid: int, text: str) -> bool | None:
    """Return whether `text` is in the environment that the process was started with; None if we may not read it, or if
    the process is exiting and has released its memory."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return None
    return os.fsencode(text) in environment if environment else None


def open_files(pid: int) -> Iterator[str]:
    """Yield what the descriptors of the process refer to, as in /proc/PID/fd; nothing if they are hidden."""
    try:
        numbers = Unpatched.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers:
        try:
            yield Unpatched.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue  # closed meanwhile


def has_open(pid: int, path: Path) -> bool | None:
    """Return whether the process has the file at `path` open; None if its files are hidden."""
    try:
        Unpatched.listdir(f"/proc/{pid}/fd")
    except OSError:
        return None
    return str(path) in open_files(pid)


def deleted_file(pid: int, name: str) -> str | None:
    """Return the path of a deleted file called `name` that the process has open; None if none is visible."""
    end = f"/{name}{DELETED}"
    return next((path.removesuffix(DELETED) for path in open_files(pid) if path.endswith(end)), None)


def listening_socket(address: str, port: int) -> str | None:
    """Return the inode of the socket that a connection to a local address reaches; None if none is visible."""
    wanted = ipaddress.ip_address(address)
    suffix = f":{port:04X}"
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = [line for line in read_file(table).decode().splitlines() if suffix in line]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and local.endswith(suffix):
                rank = addresses.rank(parse_address(local.removesuffix(suffix)), wanted)
                if rank is not None:
                    found[rank] = rest[5]
    return found[min(found)] if found else None


def listener(address: str, port: int) -> tuple[str, int | None] | None:
    """Return the inode of the socket that a connection to a local address reaches, and the oldest process that is seen
    to hold it; None if no socket is visible."""
    inode = listening_socket(address, port)
    return None if inode is None else (inode, next(iter(holders(inode)), None))


def holds_socket(pid: int, socket: str) -> bool:
    """Return whether the process is seen to hold the socket with this inode."""
    return f"socket:[{socket}]" in open_files(pid)


def listens(pid: int, address: str, port: int) -> bool:
    """Return whether the process is seen to answer connections to a local address."""
    inode = listening_socket(address, port)
    return inode is not None and holds_socket(pid, inode)


def holders(socket_inode: str) -> list[int]:
    """Return the visible pids that hold a socket, the oldest process first."""
    link = f"socket:[{socket_inode}]"
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return sorted((pid for pid in pids if link in open_files(pid)), key=_age)


def _age(pid: int) -> float:
    try:
        fields = stat(pid)
    except OSError:
        fields = None
    return float(fields[19]) if fields is not None else float("inf")


def _stat_or_raise(pid: int) -> list[str] | None:
    try:
        fields = stat(pid)
    except OSError as error:
        raise ProcfsUnavailable(f"pid {pid} is hidden ({error.strerror})") from None
    if fields is None and stat(os.getpid()) is None:
        raise ProcfsUnavailable("this system has no /proc")
    return fields


def parse_address(text: str) -> addresses.Address:
    """Parse an address of /proc/net/tcp: 32-bit words, each in the machine's byte order."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    packed = b"".join(word[::-1] if _LITTLE else word for word in words)
    return addresses.unmapped(ipaddress.ip_address(packed))
