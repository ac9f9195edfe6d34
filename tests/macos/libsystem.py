"""libSystem as far as the product uses it, answering from the processes of Linux.

Each answer is laid out by the offsets of XNU's headers (11417, bsd/sys/proc_info.h and proc_info_private.h), which were
computed by a C compiler from those headers, and by the rules of bsd/kern/proc_info.c and kern_sysctl.c: zombies are not
found, processes of other users show little, and programs of the system withhold their environment.

Imports nothing of the project.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

LISTEN = "0A"
SYSTEM = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/")
"""Where programs withhold their environment (cs_restricted), but for interpreters, which users install elsewhere."""
INSTALLED = ("python", "node")
FLAVORS = {1: "fds", 3: "bsd", 13: "short", 17: "unique"}
BOOT = "8A1F0C3E-5B7D-4E2A-9C61-0D4B7F2E9A55"
FREEZES = {"T": 4, "t": 4}


class LibSystem:
    """Called as `ctypes.CDLL(None)` is.

    Args:
        remember_s: how soon it looks again for a socket that it does not know; that takes milliseconds.
    """

    def __init__(self, *, remember_s: float = 0.05) -> None:
        self._remember_s = remember_s
        self._table: dict[str, tuple[int, bytes, int] | None] = {}
        self._table_at = -1.0

    # libproc

    def proc_listpids(self, kind: int, _argument: int, buffer: Any, size: int) -> int:
        assert kind == 1
        found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return _answer(struct.pack(f"={len(found)}i", *found), buffer, size, room=80)

    def proc_pidinfo(self, pid: int, flavor: int, argument: Any, buffer: Any, size: int) -> int:
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            assert not argument.value, "it would find zombies"
            return _refuse(errno.ESRCH)
        try:
            uid, ruid = _users(pid)
        except OSError:
            return _refuse(errno.ESRCH)
        if FLAVORS[flavor] in ("fds", "bsd") and os.geteuid() not in (0, uid):
            return _refuse(errno.EPERM)
        match FLAVORS[flavor]:
            case "fds":
                try:
                    return _answer(self._descriptors(pid), buffer, size, room=160)
                except OSError:  # it has just ended
                    return _refuse(errno.ESRCH)
            case "bsd":
                ticks = int(stat[19]) / os.sysconf("SC_CLK_TCK")
                seconds, micro = divmod(round((_booted() + ticks) * 1_000_000), 1_000_000)
                layout = {4: ("I", FREEZES.get(stat[0], 2)), 12: ("I", pid), 16: ("I", int(stat[1]))}
                layout |= {20: ("I", uid), 28: ("I", ruid), 120: ("Q", seconds), 128: ("Q", micro)}
                return _answer(_laid_out(136, layout), buffer, size)
            case "short":
                layout = {0: ("I", pid), 4: ("I", int(stat[1])), 8: ("I", int(stat[2]))}
                layout |= {12: ("I", FREEZES.get(stat[0], 2)), 36: ("I", uid), 44: ("I", ruid)}
                return _answer(_laid_out(64, layout), buffer, size)
            case _:
                layout = {16: ("Q", int(stat[19]) << 22 | pid), 32: ("i", int(stat[19]) & 0x7FFFFFFF)}
                return _answer(_laid_out(56, layout), buffer, size)

    def _descriptors(self, pid: int) -> bytes:
        found = []
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{number}")
                kind = 1 if link.startswith("/") else 2 if link.startswith("socket:") else 6
                found.append(struct.pack("=iI", int(number), kind))
        return b"".join(found)

    def proc_pidfdinfo(self, pid: int, number: int, flavor: int, buffer: Any, size: int) -> int:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{number}")
            if flavor == 3 and not link.startswith("socket:"):
                return _refuse(errno.ENOTSOCK)  # closed meanwhile, and its number given to a file
            if flavor == 3:
                return _answer(self._socket(link, _is_tcp(f"/proc/{pid}/fd/{number}")), buffer, size)
            file = os.stat(f"/proc/{pid}/fd/{number}")
            locked = b"FLOCK" in _read(f"/proc/{pid}/fdinfo/{number}")
        except OSError as error:
            return _refuse(error.errno or 0)
        layout: dict[int, tuple[str, Any]] = {0: ("I", 0x4000 | 3 if locked else 3), 16: ("i", 1)}
        layout |= {24: ("I", file.st_dev & 0xFFFFFFFF), 30: ("H", file.st_nlink & 0xFFFF), 32: ("Q", file.st_ino)}
        if flavor == 1:
            return _answer(_laid_out(176, layout), buffer, size)
        assert flavor == 2
        layout[176] = ("1024s", os.fsencode(link.removesuffix(" (deleted)"))[:1023])
        return _answer(_laid_out(1200, layout), buffer, size)

    def _socket(self, link: str, is_tcp: bool) -> bytes:
        inode = link.removeprefix("socket:[").removesuffix("]")
        if is_tcp and inode not in self._table and time.monotonic() > self._table_at + self._remember_s:
            self._table, self._table_at = _tcp(), time.monotonic()
        layout: dict[int, tuple[str, Any]] = {160: ("Q", int(inode))}
        found = self._table.get(inode)
        if found is not None:
            family, address, port = found
            both = 3 if family == socket.AF_INET6 and not any(address) else 2
            flags = 1 if family == socket.AF_INET else both
            layout |= {184: ("i", 2 if family == socket.AF_INET else 30), 256: ("i", 2)}
            layout |= {268: ("i", socket.htons(port)), 288: ("B", flags), 344: ("i", 1)}
            layout[312] = ("16s", address.rjust(16, b"\0"))
        return _laid_out(792, layout)

    def proc_signal_with_audittoken(self, token: Any, signum: int) -> int:
        values = struct.unpack("=8I", bytes(token))
        if not 0 < signum < 32:
            return errno.EINVAL
        stat = _stat(values[5])
        if stat is None or stat[0] in "ZX" or int(stat[19]) & 0x7FFFFFFF != values[7]:
            return errno.ESRCH
        try:
            self.deliver(values[5], signum)
        except OSError as error:
            return error.errno or 0
        return 0

    def deliver(self, pid: int, signum: int) -> None:
        """Send a signal, as the kernel does."""
        os.kill(pid, signum)

    # sysctl

    def sysctlbyname(self, name: bytes, buffer: Any, size: Any, _new: None, _length: int) -> int:
        assert name == b"kern.bootsessionuuid"
        return _fill(BOOT.encode() + b"\0", buffer, size)

    def sysctl(self, name: Any, length: int, buffer: Any, size: Any, _new: None, _length: int) -> int:
        kernel, arguments, pid = name[:length]
        assert (kernel, arguments) == (1, 49)
        try:
            if os.geteuid() not in (0, _users(pid)[0]):
                raise PermissionError
            program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
            words = _read(f"/proc/{pid}/cmdline")
            environment = _read(f"/proc/{pid}/environ")
        except OSError:
            ctypes.set_errno(errno.EINVAL)
            return -1
        first = os.fsencode(program) + b"\0"
        first += b"\0" * (-len(first) % 8)
        told = b"" if is_withheld(program) else environment + b"executable_path=" + os.fsencode(program) + b"\0"
        return _fill(struct.pack("=i", words.count(b"\0")) + first + words + told, buffer, size)


def stand_in(monkeypatch: Any) -> LibSystem:
    """Have the product ask this for the time of a test."""
    fake = LibSystem(remember_s=0.0)
    monkeypatch.setattr("neo_daemons.libproc.library", lambda: fake)
    monkeypatch.setattr("neo_daemons.libproc.boot_id", lambda: BOOT)
    return fake


def is_withheld(program: str) -> bool:
    """Whether the kernel withholds the environment of a program."""
    return program.startswith(SYSTEM) and not Path(program).name.startswith(INSTALLED)


def _refuse(number: int) -> int:
    ctypes.set_errno(number)
    return 0


def _answer(data: bytes, buffer: Any, size: int, room: int = 0) -> int:
    """Copy an answer, as the kernel does: a list is cut off, anything else must have its whole room."""
    if buffer is None:
        return len(data) + room
    if not room and size < len(data):
        return _refuse(errno.ENOMEM)
    data = data[:size]
    ctypes.memmove(buffer, data, len(data))
    return len(data)


def _fill(data: bytes, buffer: Any, size: Any) -> int:
    if buffer is not None:
        assert size._obj.value >= len(data), "the kernel would return the end of it"
        ctypes.memmove(buffer, data, len(data))
    size._obj.value = len(data)
    return 0


def _laid_out(size: int, layout: dict[int, tuple[str, Any]]) -> bytes:
    data = bytearray(size)
    for offset, (kind, value) in layout.items():
        struct.pack_into(f"={kind}", data, offset, value)
    return bytes(data)


def _is_tcp(path: str) -> bool:
    try:
        return b"TCP" in os.getxattr(path, "system.sockprotoname")
    except OSError:
        return True


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 17):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _stat(pid: int) -> list[str] | None:
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return None


def _users(pid: int) -> tuple[int, int]:
    """The effective and the real user of a process."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[2]), int(line.split()[1])
    raise ProcessLookupError


def _booted() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)


def _tcp() -> dict[str, tuple[int, bytes, int] | None]:
    """The sockets of TCP by their inodes, and what those listen at that do."""
    found: dict[str, tuple[int, bytes, int] | None] = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in _read(f"/proc/net/{table}").decode("ascii").splitlines()[1:]:
            fields = line.split()
            found[fields[9]] = None
            if fields[3] == LISTEN:
                address, _, port = fields[1].partition(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                found[fields[9]] = (int(family), b"".join(words), int(port, 16))
    return found
