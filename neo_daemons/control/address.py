"""Addresses of the control API: a Unix socket in the state directory, or in a private directory if that path is too
long, and a TCP port of the loopback interface."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from neo_daemons.state_dir import StateDirError, UnusableStateDir, is_text
from neo_daemons.urls import url_host

MAX_PATH_BYTES = 103
"""sun_path holds 104 bytes on macOS and 108 on Linux, including the final zero."""


def socket_path(state_dir: Path) -> Path:
    """Return the path of the socket of `state_dir`'s supervisor. Create its directory, private to this user.

    Raises:
        UnusableStateDir: the path is too long and no other directory can hold the socket.
    """
    path = state_dir / "control.sock"
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        return path
    name = f"{hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]}.sock"
    faults = []
    for base in _short_directories():
        directory = base / f"neo-daemons-{os.geteuid()}"
        if not base.is_absolute() or not is_text(base) or len(os.fsencode(directory / name)) > MAX_PATH_BYTES:
            continue
        try:
            _make_private(directory)
        except OSError as error:
            faults.append(f"{directory}: {error.strerror}")
            continue
        return directory / name
    raise UnusableStateDir(
        f"the socket path {path} is too long and no shorter location is usable ({'; '.join(faults)}); "
        "set XDG_RUNTIME_DIR to a short path of a private directory, or pass a short path with --state-dir"
    )


def _short_directories() -> Iterator[Path]:
    """Yield directories that may hold a socket, the best first. XDG_RUNTIME_DIR may name an unusable one: shells of
    `su`, `sudo` and containers keep the variables of another user or machine."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime)
    import tempfile  # few state directories have so long a path

    with contextlib.suppress(FileNotFoundError):  # none of them is writable
        yield Path(tempfile.gettempdir())
    yield Path("/tmp")  # noqa: S108 - made private


def _make_private(directory: Path) -> None:
    """Create a directory that only this user can enter.

    Raises:
        OSError: it cannot be created, or it is not private.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OSError(errno.EPERM, "not a private directory of this user", str(directory))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, "not writable", str(directory))


def bind(path: Path) -> socket.socket:
    """Return a listening socket at `path`, for this user only. The caller holds the state directory's lock, so an
    existing socket belongs to a dead supervisor and is replaced. It appears there when it listens, so a client that
    sees it can connect.

    Raises:
        StateDirError: it cannot be created.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unfinished = path.with_suffix(".new")  # no longer than the path, whose length is limited
    try:
        unfinished.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listener.bind(str(unfinished))
        finally:
            os.umask(mask)
        listener.listen(128)
        unfinished.replace(path)
    except OSError as error:
        listener.close()
        raise StateDirError(f"cannot create the control socket {path}: {error.strerror}") from None
    return listener


class Loopback(NamedTuple):
    """A TCP address that only this machine can reach."""

    host: str
    port: int
    """0: the system chooses a free one."""

    @classmethod
    def parse(cls, text: str) -> Loopback:
        """Parse ``PORT`` or ``HOST:PORT``.

        Raises:
            ValueError: `text` is not such an address; ``str()`` says why.
        """
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
        if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
            raise ValueError("expected PORT or HOST:PORT, with a port from 0 to 65535")
        host = "127.0.0.1" if host == "localhost" else host
        try:
            inside = ipaddress.ip_address(host).is_loopback
        except ValueError:
            inside = False
        if not inside:
            raise ValueError("only 127.0.0.1, ::1 and localhost are allowed, because the connection is not encrypted")
        return cls(host, int(port))

    @property
    def url(self) -> str:
        """The URL of the API at this address."""
        return f"http://{url_host(self.host)}:{self.port}"

    def bind(self) -> socket.socket:
        """Return a listening socket at this address.

        Raises:
            StateDirError: it cannot be created.
        """
        listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self)
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise StateDirError(
                f"cannot listen on {self.url}: {error.strerror}; choose another port with --listen"
            ) from None
        return listener
