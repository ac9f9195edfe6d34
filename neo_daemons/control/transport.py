"""HTTP for the control API, on its sockets: the only module that relies on uvicorn's internals.

uvicorn does not promise to keep what is subclassed here: `pyproject.toml` bounds its versions, and
``tests/test_transport.py`` pins the behaviour that this module relies on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from neo_daemons.supervision import faults

from . import address, peer
from .tcp_listener import TcpListener

MAX_CONNECTIONS = 512
"""With more connections than this, requests are answered with status 503."""
SPARE_CONNECTIONS = 64
"""So many more connections get that answer; further ones are closed."""
ACCEPTED_AT_ONCE = 32
"""How many waiting connections are accepted at once. asyncio may open four times as many before we can close the first
one above the limit; with the limits above, that stays well below 1024, the usual limit of descriptors."""
BACKLOG = 2048
"""How many connections may wait to be accepted. On a Unix socket, connecting fails beyond that."""
MAX_TCP_CONNECTIONS = 64
"""Further ones are closed: unauthenticated clients cannot exhaust connections."""
HEAD_S = 10.0
"""A connection must send its first request within this."""
GRACE_S = 1
"""At a shutdown, running requests may take this much longer."""


class HttpProtocol(H11Protocol):
    """HTTP/1.1 for this user's processes and, over TCP, for requests that `Guard` accepts."""

    guard: Callable[[ASGIApp], ASGIApp] | None = None
    """Set by `behind`, for connections over TCP."""
    _patience: asyncio.TimerHandle | None = None
    """None for a connection that was refused."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection = transport.get_extra_info("socket")
        if connection.family != socket.AF_UNIX and self.guard is not None:
            self.app = self.guard(self.app)
            others = sum(isinstance(other, HttpProtocol) and other.client is not None for other in self.connections)
            allowed = others < MAX_TCP_CONNECTIONS
        else:
            allowed = len(self.connections) < MAX_CONNECTIONS + SPARE_CONNECTIONS and peer.may_enter(connection)
        if not allowed:
            transport.abort()
            return
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEAD_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
            super().connection_lost(exc)

    def _give_up(self) -> None:
        """Close the connection of a client that has not sent a request."""
        if cast("object | None", self.cycle) is None:
            self.transport.abort()


def behind(guard: Callable[[ASGIApp], ASGIApp]) -> type[HttpProtocol]:
    """Return the protocol with `guard` before requests that come over TCP."""

    class Guarded(HttpProtocol):
        pass

    Guarded.guard = staticmethod(guard)
    return Guarded


class GuestServer(uvicorn.Server):
    """uvicorn inside our event loop: it leaves signals alone and waits for an event instead of polling."""

    @classmethod
    def of(cls, app: ASGIApp, protocol: type[HttpProtocol]) -> Self:
        """Return a server of `app`."""
        return cls(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                backlog=ACCEPTED_AT_ONCE,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop_asked = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # asyncio uses one number for how many connections may wait and how many it accepts at once.
        for listener in sockets or ():
            listener.listen(BACKLOG)

    async def listen(self, listener: socket.socket) -> None:
        """Serve another Unix socket in place of the first. Connections stay open."""
        kind = cast("type[HttpProtocol]", self.config.http_protocol_class)

        def make() -> asyncio.Protocol:
            return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        replaced, self.servers[0] = (
            self.servers[0],
            await loop.create_server(make, sock=listener, backlog=ACCEPTED_AT_ONCE),
        )
        listener.listen(BACKLOG)
        replaced.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop_asked.wait()


class Transport:
    """Serves an application on a Unix socket, and also over TCP if there is a listener.

    Args:
        path: the path of the Unix socket.
        closing: set before `stop` is called; from then on cancelled requests are not reported.
    """

    def __init__(self, app: ASGIApp, path: Path, tcp: TcpListener | None, closing: asyncio.Event) -> None:
        self.path = path
        self._app = _until_closing(app, closing)
        self._tcp = tcp
        self._server: GuestServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._inode = 0
        """The inode of the Unix socket."""

    def start(self) -> None:
        """Listen.

        Raises:
            StateDirError: the socket cannot be created.
        """
        sockets, protocol = [address.bind(self.path)], HttpProtocol
        self._inode = self.path.stat().st_ino
        if self._tcp is not None:
            sockets.append(self._tcp.socket)
            protocol = behind(self._tcp.guard)
        self._server = GuestServer.of(self._app, protocol)
        serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=sockets))
        self._serving = faults.reported(serving, "serving the control API")

    async def stop(self) -> None:
        """Give running requests `GRACE_S` to finish, close, and remove the socket."""
        if self._server is not None and self._serving is not None:
            self._server.stop_asked.set()
            await asyncio.gather(self._serving, return_exceptions=True)
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
        if self._server is None or not self._server.started or self._is_at_its_path():
            return False
        path = address.socket_path(state_dir)  # its directory may have been removed, too
        listener = address.bind(path)
        self.path, self._inode = path, path.stat().st_ino
        await self._server.listen(listener)
        return True


def _until_closing(app: ASGIApp, closing: asyncio.Event) -> ASGIApp:
    """Wrap `app` so that requests which uvicorn cancels at a shutdown are not reported as errors."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not closing.is_set():
                raise

    return run
