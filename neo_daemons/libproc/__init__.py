"""Read what macOS shows of processes, by libproc and sysctl(3). This opens no handle on a process and changes nothing.

It answers what `procfs` answers on Linux; `processes` chooses. The layouts, numbers and rules are those of the XNU
sources 11417 (macOS 15): bsd/sys/proc_info.h, proc_info_private.h, proc.h, fcntl.h and sysctl.h, and
bsd/kern/proc_info.c and kern_sysctl.c. `tests/test_libproc.py` compares them with the headers. Never run on macOS.

A process of another user shows only that it exists, its unique id and its state, except to root.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import ipaddress
import os
from collections.abc import Iterator
from ctypes import c_int, c_int32, c_uint64
from pathlib import Path
from socket import ntohs
from typing import Any, TypeVar

from neo_daemons import addresses
from neo_daemons.records import Identity, Unseen

from .layouts import (
    CTL_KERN,
    FWASLOCKED,
    INI_IPV6,
    KERN_PROCARGS2,
    PROC_ALL_PIDS,
    PROC_PIDFDSOCKETINFO,
    PROC_PIDFDVNODEINFO,
    PROC_PIDFDVNODEPATHINFO,
    PROC_PIDLISTFDS,
    PROC_PIDT_SHORTBSDINFO,
    PROC_PIDTBSDINFO,
    PROC_PIDUNIQIDENTIFIERINFO,
    PROX_FDTYPE_SOCKET,
    PROX_FDTYPE_VNODE,
    SOCKINFO_TCP,
    SSTOP,
    TSI_S_LISTEN,
    BsdInfo,
    DescriptorInfo,
    ShortBsdInfo,
    SocketDescriptor,
    UniqueIdentifierInfo,
    VnodeDescriptor,
    VnodePathDescriptor,
)

MORE_DESCRIPTORS, MORE_PIDS, MORE_BYTES = 32, 64, 4096
"""Room for what is added between the question how much there is and the answer."""
SAME_DEVICE = 0xFFFFFFFF
"""A device number has 32 bits there; `os.stat` returns it with a sign."""

S = TypeVar("S", bound=ctypes.Structure)


@functools.cache
def library() -> Any:
    """Return libSystem, which has libproc."""
    return ctypes.CDLL(None, use_errno=True)


def _fault(pid: int) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"pid {pid}: {os.strerror(number)}")


def _process(pid: int, flavor: int, kind: type[S]) -> S:
    """Ask proc_pidinfo.

    Raises:
        ProcessLookupError: there is no such process, or it is a zombie.
        PermissionError: it is another user's.
    """
    answer = kind()
    size = ctypes.sizeof(answer)
    if library().proc_pidinfo(pid, flavor, c_uint64(0), ctypes.byref(answer), size) != size:
        raise _fault(pid)
    return answer


def _descriptor(pid: int, number: int, flavor: int, kind: type[S]) -> S | None:
    """Ask proc_pidfdinfo; None if the descriptor has been closed meanwhile."""
    answer = kind()
    size = ctypes.sizeof(answer)
    got = library().proc_pidfdinfo(pid, number, flavor, ctypes.byref(answer), size)
    return answer if got == size else None


def _descriptors(pid: int, kind: int) -> list[int]:
    """Return the open descriptors of a process that are of a kind; none if they are hidden, or it is gone."""
    size = library().proc_pidinfo(pid, PROC_PIDLISTFDS, c_uint64(0), None, 0)
    if size <= 0:
        return []
    found = (DescriptorInfo * (size // ctypes.sizeof(DescriptorInfo) + MORE_DESCRIPTORS))()
    size = library().proc_pidinfo(pid, PROC_PIDLISTFDS, c_uint64(0), ctypes.byref(found), ctypes.sizeof(found))
    return [one.proc_fd for one in found[: max(size, 0) // ctypes.sizeof(DescriptorInfo)] if one.proc_fdtype == kind]


@functools.cache
def boot_id() -> str:
    """Return the id of this boot.

    Raises:
        Unseen: the system does not report it.
    """
    text = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(len(text))
    if library().sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0) != 0 or not text.value:
        raise Unseen(f"this system does not report its boot id (kern.bootsessionuuid: {_fault(0).strerror})")
    return text.value.decode("ascii")


def machine() -> str:
    """Identify what has the ports that this process sees: a boot. The host name would change with the network."""
    try:
        return boot_id()
    except Unseen:
        return os.uname().nodename


def pid_space() -> str:
    """Identify the processes that see each other: those of this boot."""
    return machine()


def pids() -> list[int]:
    """Return the pids of all processes, those of other users included."""
    size = library().proc_listpids(PROC_ALL_PIDS, 0, None, 0)
    found = (c_int32 * (max(size, 0) // 4 + MORE_PIDS))()
    size = library().proc_listpids(PROC_ALL_PIDS, 0, ctypes.byref(found), ctypes.sizeof(found))
    return [pid for pid in found[: max(size, 0) // 4] if pid > 0]


def unique(pid: int) -> tuple[int, int]:
    """Return the unique id of a process, which no other has or had in this boot and which survives exec(2), and its
    version, which exec(2) changes.

    Raises:
        ProcessLookupError: there is no such process, or it is a zombie.
    """
    found = _process(pid, PROC_PIDUNIQIDENTIFIERINFO, UniqueIdentifierInfo)
    return found.p_uniqueid, found.p_idversion


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that has this pid now; None if there is none, or it is a zombie. The unique id
    stands where Linux has the inode of a pidfd. The start time of another user's process is hidden, and then 0.

    Raises:
        Unseen: the system refuses to tell.
    """
    boot = boot_id()
    try:
        number, _ = unique(pid)
        started = started_at(pid, hidden=0.0)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise Unseen(str(error.strerror)) from None
    return None if started is None else Identity(boot_id=boot, start_time=started, inode=number)


def started_at(pid: int, *, hidden: float | None = None) -> float | None:
    """Return when the process started, in seconds since the epoch by the clock of that moment; None if it has exited.

    Args:
        hidden: returned for a process of another user.

    Raises:
        Unseen: it belongs to another user, and `hidden` is None.
    """
    try:
        found = _process(pid, PROC_PIDTBSDINFO, BsdInfo)
    except ProcessLookupError:
        return None
    except OSError as error:
        if hidden is not None and error.errno == errno.EPERM:
            return hidden
        raise Unseen(f"pid {pid} is hidden ({os.strerror(error.errno or 0)})") from None
    return float(found.pbi_start_tvsec) + float(found.pbi_start_tvusec) / 1e6


def is_stopped(pid: int) -> bool:
    """Return whether a signal or a debugger has suspended the process; False if it is hidden."""
    try:
        return bool(_process(pid, PROC_PIDT_SHORTBSDINFO, ShortBsdInfo).pbsi_status == SSTOP)
    except OSError:
        return False


def user(pid: int) -> int:
    """Return the id of the real user of a process.

    Raises:
        OSError: there is no such process.
    """
    return int(_process(pid, PROC_PIDT_SHORTBSDINFO, ShortBsdInfo).pbsi_ruid)


def _arguments(pid: int) -> tuple[list[bytes], bytes]:
    """Return the arguments of a process, and its environment as ``NAME=value`` that end with zero bytes, followed by
    what the loader is told in the same form. So only an environment that is withheld is empty.

    Raises:
        OSError: there is no such process, or it is another user's.
    """
    name = (c_int * 3)(CTL_KERN, KERN_PROCARGS2, pid)
    size = ctypes.c_size_t(0)
    if library().sysctl(name, 3, None, ctypes.byref(size), None, 0) != 0:
        raise _fault(pid)
    # The kernel returns the end of what it has, not the start, if there is too little room.
    text = ctypes.create_string_buffer(size.value + MORE_BYTES)
    size = ctypes.c_size_t(len(text))
    if library().sysctl(name, 3, text, ctypes.byref(size), None, 0) != 0:
        raise _fault(pid)
    found = text.raw[: size.value]
    count = int.from_bytes(found[:4], "little", signed=True)
    # The path of the program comes first, and zero bytes up to a word.
    words = found[4:].partition(b"\0")[2].lstrip(b"\0").split(b"\0", max(count, 0))
    return words[:count], words[count] if len(words) > count else b""


def command(pid: int) -> tuple[str, ...]:
    """Return the command line of the process; empty if it has exited or is hidden."""
    try:
        return tuple(os.fsdecode(word) for word in _arguments(pid)[0])
    except OSError:
        return ()


def environ(pid: int) -> bytes:
    """Return the environment with which a process was started, as ``NAME=value`` that end with zero bytes.

    Raises:
        OSError: it cannot be read. That of a program of the system (cs_restricted in kern_sysctl.c) is withheld.
    """
    found = _arguments(pid)[1]
    if not found:
        raise PermissionError(errno.EPERM, f"pid {pid}: its environment is withheld")
    return found


def environment_holds(pid: int, text: str) -> bool | None:
    """Return whether `text` is in the environment that the process was started with; None if we may not read it."""
    try:
        return os.fsencode(text) in environ(pid)
    except OSError:
        return None


def _files(pid: int) -> Iterator[VnodeDescriptor]:
    """Yield the files that a process has open; nothing if they are hidden."""
    for number in _descriptors(pid, PROX_FDTYPE_VNODE):
        found = _descriptor(pid, number, PROC_PIDFDVNODEINFO, VnodeDescriptor)
        if found is not None:
            yield found


def _is(file: VnodeDescriptor, wanted: os.stat_result) -> bool:
    # Not by the path: a file system may ignore case, and /tmp is a link.
    found = file.vi_stat
    return bool(found.vst_ino == wanted.st_ino and found.vst_dev == wanted.st_dev & SAME_DEVICE)


def has_open(pid: int, path: Path) -> bool | None:
    """Return whether the process has the file at `path` open; None if its files are hidden."""
    try:
        _process(pid, PROC_PIDTBSDINFO, BsdInfo)  # which asks for the same permission
    except OSError:
        return None
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    return any(_is(file, wanted) for file in _files(pid))


def has_locked(pid: int, wanted: os.stat_result) -> bool:
    """Return whether the process is seen to have a file open through a description that flock(2) has locked. Of a file
    that is locked now, and that nobody unlocks without closing it, that is the lock's holder."""
    return any(_is(file, wanted) and file.pfi.fi_openflags & FWASLOCKED for file in _files(pid))


def deleted_files(pid: int, *, locked: bool = False) -> Iterator[str]:
    """Yield the last known paths of the deleted files that the process has open, as far as they are visible; with
    `locked`, of those that it has locked."""
    for number in _descriptors(pid, PROX_FDTYPE_VNODE):
        found = _descriptor(pid, number, PROC_PIDFDVNODEPATHINFO, VnodePathDescriptor)
        if found is not None and not found.vi_stat.vst_nlink and (found.pfi.fi_openflags & FWASLOCKED or not locked):
            yield os.fsdecode(found.vip_path)


def deleted_file(pid: int, name: str) -> str | None:
    """Return the path of a deleted file called `name` that the process has open; None if none is visible."""
    return next((path for path in deleted_files(pid) if path.endswith(f"/{name}")), None)


def listeners(pid: int) -> Iterator[tuple[str, addresses.Address, int]]:
    """Yield the TCP sockets at which a process listens: an id, the address and the port; nothing if it is hidden."""
    for number in _descriptors(pid, PROX_FDTYPE_SOCKET):
        found = _descriptor(pid, number, PROC_PIDFDSOCKETINFO, SocketDescriptor)
        if found is None or found.soi_kind != SOCKINFO_TCP or found.soi_proto.pri_tcp.tcpsi_state != TSI_S_LISTEN:
            continue
        seen = found.soi_proto.pri_tcp.tcpsi_ini
        packed = bytes(seen.insi_laddr)
        # An address of the older family is at the end of the field. A socket of both counts as one of the newer.
        address = ipaddress.ip_address(packed if seen.insi_vflag & INI_IPV6 else packed[12:])
        yield f"{found.soi_so:x}", addresses.unmapped(address), ntohs(seen.insi_lport & 0xFFFF)


def listener(address: str, port: int) -> tuple[str, int | None] | None:
    """Return an id of the socket that a connection to a local address reaches, and the oldest process that is seen to
    hold it. None if no socket is visible: only those of our own processes are, except to root."""
    wanted = ipaddress.ip_address(address)
    found: dict[int, dict[str, list[int]]] = {}
    for pid in pids():
        for key, bound, number in listeners(pid):
            rank = addresses.rank(bound, wanted) if number == port else None
            if rank is not None:
                found.setdefault(rank, {}).setdefault(key, []).append(pid)
    if not found:
        return None
    key, holders = next(iter(found[min(found)].items()))
    return key, min(holders, key=lambda pid: started_at(pid, hidden=0.0) or float("inf"))


def holds_socket(pid: int, socket: str) -> bool:
    """Return whether the process is seen to listen at a socket that `listener` has found."""
    return any(socket == key for key, _, _ in listeners(pid))


def listens(pid: int, address: str, port: int) -> bool:
    """Return whether the process is seen to answer connections to a local address. Only a listener at the very address
    is sure to: there may be others beside one at a wildcard."""
    wanted = ipaddress.ip_address(address)
    return any((bound, number) == (wanted, port) for _, bound, number in listeners(pid))
