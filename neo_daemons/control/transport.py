"""The sockets of the control API: a Unix socket that is recreated when it was removed, and TCP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from neo_daemons.supervision import faults

from . import address
from .http_server import Handler, HttpServer
from .tcp_listener import TcpListener


class Transport:
    """Serves requests on a Unix socket, and also over TCP if there is a listener.

    Args:
        path: the path of the Unix socket.
    """

    def __init__(self, handler: Handler, path: Path, tcp: TcpListener | None) -> None:
        self.path = path
        self._tcp = tcp
        self._server = HttpServer(handler, tcp.refuse if tcp is not None else None)
        self._listener: socket.socket | None = None
        self._starting: asyncio.Task[None] | None = None
        self._inode = 0
        """The inode of the Unix socket."""

    def start(self) -> None:
        """Listen.

        Raises:
            StateDirError: the socket cannot be created.
        """
        self._listener = address.bind(self.path)
        self._inode = self.path.stat().st_ino
        starting = asyncio.get_running_loop().create_task(self._start(self._listener))
        self._starting = faults.reported(starting, "serving the control API")

    async def _start(self, listener: socket.socket) -> None:
        await self._server.listen(listener)
        if self._tcp is not None:
            await self._server.listen(self._tcp.socket)

    async def stop(self) -> None:
        """Give running requests some time to finish, close, and remove the socket."""
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
            await self._server.close()
        if self._tcp is not None:
            self._tcp.close()
        with contextlib.suppress(FileNotFoundError):
            if self._is_at_its_path():
                self.path.unlink()

    def _is_at_its_path(self) -> bool:
        """Return whether the socket is still there: cleaners of temporary files or the end of a login may remove it."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    async def listen_again(self, state_dir: Path) -> bool:
        """Recreate the socket of `state_dir`, and the token's file, if they were removed. Connections stay open.

        Returns:
            Whether the socket was recreated; `path` is where it is now.

        Raises:
            StateDirError, OSError: it cannot be created.
        """
        if self._tcp is not None:
            self._tcp.publish()
        if self._listener is None or self._starting is None or not self._starting.done() or self._is_at_its_path():
            return False
        path = address.socket_path(state_dir)  # its directory may have been removed, too
        listener, replaced = address.bind(path), self._listener
        self.path, self._inode, self._listener = path, path.stat().st_ino, listener
        await self._server.listen(listener)
        self._server.stop_listening(replaced)
        return True
