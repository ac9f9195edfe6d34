"""What macOS has not and refuses, as seen by the product alone, on Linux.

Modules of the product are executed with an `import` of their own: the modules of the system that they get lack what
macOS lacks, have what it has, and refuse what it refuses. Tests, other packages and the standard library are left
alone. ``python -m tests.macos`` has every process of this interpreter's environment do so for which
``NEO_DAEMONS_TEST_EMULATE=macos`` is set, and all that such a process starts.

What stands in for the kernel answers from that of Linux, by the rules that the sources of XNU state. It is no macOS:
what those sources do not say, this does not show.
"""

from __future__ import annotations

import builtins
import functools
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

PRODUCT = ("neo_daemons", "pytest_neo_daemons")
VARIABLE = "EMULATED_SYSTEM"
"""Tells child processes. Its name is not one that the product and the tests keep from them."""
MISSING = {
    "os": (
        "O_PATH", "P_PIDFD", "copy_file_range", "eventfd", "getxattr", "listxattr", "memfd_create", "pidfd_open",
        "posix_fadvise", "posix_fallocate", "removexattr", "sched_getaffinity", "setns", "setxattr", "splice",
        "unshare",
        *(() if sys.version_info >= (3, 13) else ("waitid",)),
    ),
    "signal": ("SIGRTMAX", "SIGRTMIN", "pidfd_send_signal", "sigtimedwait", "sigwaitinfo"),
    "select": ("epoll",),
    "socket": ("AF_NETLINK", "SO_PASSCRED", "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK"),
    "time": ("CLOCK_BOOTTIME",),
}  # fmt: skip
"""Module → what Linux has of it and macOS has not."""
F_GETPATH, F_FULLFSYNC = 50, 51
ENOENT, ENOTSOCK, EOPNOTSUPP = 2, 88, 95
SOL_LOCAL, LOCAL_PEERCRED, LOCAL_PEERPID = 0, 1, 2


class Substitute(ModuleType):
    """A module as macOS has it."""

    def __init__(self, real: ModuleType, missing: Sequence[str], others: Mapping[str, Any]) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(others)
        self.__dict__["_real"] = real
        self.__dict__["_missing"] = frozenset(missing) - others.keys()

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["_missing"]:
            raise AttributeError(f"macOS has no {self.__name__}.{name}")
        return getattr(self.__dict__["_real"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_real"], name, value)  # by a test

    def __dir__(self) -> list[str]:
        return [name for name in dir(self.__dict__["_real"]) if name not in self.__dict__["_missing"]]


class Emulation:
    """Has the modules of the product executed as on macOS.

    Args:
        libsystem: makes what stands in for libSystem.
        kqueue: puts kqueue into a module, name by name.
    """

    def __init__(self, libsystem: Callable[[], Any], kqueue: Callable[[Callable[[str, object], None]], None]) -> None:
        self._libsystem = functools.cache(libsystem)
        self._kqueue = kqueue
        self._substitutes: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import, "open": _refusing(builtins.open)}

    def wrap(self, execute: Callable[[Any, ModuleType], None]) -> Callable[[Any, ModuleType], None]:
        """What executes modules, but those of the product as on macOS."""

        @functools.wraps(execute)
        def exec_module(loader: Any, module: ModuleType) -> None:
            if module.__name__.partition(".")[0] in PRODUCT:
                vars(module)["__builtins__"] = self._builtins
            execute(loader, module)
            change = _CHANGES.get(module.__name__)
            if change is not None:
                change(module)

        return exec_module

    def _import(self, name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        found = builtins.__import__(name, globals_, locals_, fromlist, level)
        make = None if level else _SUBSTITUTES.get(found.__name__)
        if make is None:
            return found
        if found.__name__ not in self._substitutes:
            others = make(self, found)
            self._substitutes[found.__name__] = Substitute(found, MISSING.get(found.__name__, ()), others)
        return self._substitutes[found.__name__]


# The modules of the system


def _refusing(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function of files, on a system without ``/proc``."""

    @functools.wraps(real)
    def call(path: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(path, str | bytes) or hasattr(path, "__fspath__"):
            text = path if isinstance(path, str | bytes) else path.__fspath__()
            if str(text if isinstance(text, str) else text.decode("utf-8", "replace")).startswith("/proc"):
                raise FileNotFoundError(ENOENT, "No such file or directory", text)
        return real(path, *arguments, **named)

    return call


def _sys(_: Emulation, real: ModuleType) -> dict[str, Any]:
    return {"platform": "darwin"}


def _os(_: Emulation, real: Any) -> dict[str, Any]:
    def sendfile(out: int, *arguments: Any) -> int:
        import stat

        if not stat.S_ISSOCK(real.fstat(out).st_mode):
            raise OSError(ENOTSOCK, "Socket operation on non-socket")
        return int(real.sendfile(out, *arguments))

    names = ("access", "listdir", "lstat", "open", "readlink", "scandir", "stat")
    return {"sendfile": sendfile, "O_EVTONLY": 0, **{name: _refusing(getattr(real, name)) for name in names}}


def _fcntl(_: Emulation, real: Any) -> dict[str, Any]:
    def fcntl(descriptor: Any, operation: int, argument: Any = 0) -> Any:
        import os

        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if operation == F_FULLFSYNC:
            return os.fsync(number)
        if operation != F_GETPATH:
            return real.fcntl(descriptor, operation, argument)
        path = os.readlink(f"/proc/self/fd/{number}")
        if path.endswith(" (deleted)"):
            raise FileNotFoundError(ENOENT, "No such file or directory")
        return os.fsencode(path).ljust(len(argument), b"\0")

    return {"fcntl": fcntl, "F_GETPATH": F_GETPATH, "F_FULLFSYNC": F_FULLFSYNC}


def _ctypes(emulation: Emulation, real: Any) -> dict[str, Any]:
    def load(name: str | None, *arguments: Any, **named: Any) -> Any:
        return real.CDLL(name, *arguments, **named) if name is not None else emulation._libsystem()

    return {"CDLL": load}


def _select(emulation: Emulation, real: ModuleType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    emulation._kqueue(found.__setitem__)
    return found


def _nothing(_: Emulation, real: ModuleType) -> dict[str, Any]:
    return {}


def _psutil(_: Emulation, real: Any) -> dict[str, Any]:
    import os

    def net_connections(kind: str = "inet") -> Any:
        raise real.AccessDenied(os.getpid())

    return {"net_connections": net_connections}


_SUBSTITUTES: Mapping[str, Callable[[Emulation, ModuleType], dict[str, Any]]] = {
    "ctypes": _ctypes,
    "fcntl": _fcntl,
    "os": _os,
    "psutil": _psutil,
    "select": _select,
    "signal": _nothing,
    "socket": _nothing,
    "sys": _sys,
    "time": _nothing,
}


# Modules of the product that reach the system by other ways


class _Peer:
    """A connection that has the options of macOS."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        import socket
        import struct

        assert level == SOL_LOCAL
        found = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, gid = struct.unpack("=iII", found)
        if option == LOCAL_PEERPID:
            return pid
        assert (option, size) == (LOCAL_PEERCRED, 76)
        return struct.pack("=IIhxx16I", 0, uid, 1, gid, *[0] * 15)


def _change_peer(module: Any) -> None:
    read = module._of_macos
    module._READERS = {"darwin": lambda connection: read(_Peer(connection))}


def _change_sampler(module: Any) -> None:
    module.HAS_PROC = False  # pathlib is that of all


def _change_common(module: Any) -> None:
    platform = module.CommonPlatform
    bind = platform._bind

    def bound(self: Any, host: str, port: int) -> Any:
        """With SO_REUSEADDR, only the very address is in use: lookups without wildcards in in_pcbbind of XNU."""
        import errno
        import socket

        try:
            return bind(self, host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _listens(host, port):
                raise
            return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)

    platform._bind = bound


def _listens(host: str, port: int) -> bool:
    """Whether there is a listener at the very address."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(
        family, str(socket.getaddrinfo(host or None, 0, family, flags=socket.AI_PASSIVE)[0][4][0])
    )
    words = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    wanted = f"{words.hex().upper()}:{port:04X}"
    with open("/proc/net/tcp6" if ":" in host else "/proc/net/tcp") as file:
        return any(line.split()[1] == wanted and line.split()[3] == "0A" for line in file)


_CHANGES: Mapping[str, Callable[[Any], None]] = {
    "neo_daemons.control.peer": _change_peer,
    "neo_daemons.supervision.platform.common": _change_common,
    "pytest_neo_daemons.fence.sampler": _change_sampler,
}


def install(libsystem: Callable[[], Any], kqueue: Callable[[Callable[[str, object], None]], None]) -> None:
    """Have this process, and all that it starts, see macOS."""
    import os

    os.environ[VARIABLE] = "macos"
    # Not as a finder: the plugin finds its modules by one of its own.
    basics: Any = next(kind for kind in importlib.machinery.SourceFileLoader.__mro__ if "exec_module" in vars(kind))
    basics.exec_module = Emulation(libsystem, kqueue).wrap(basics.exec_module)
