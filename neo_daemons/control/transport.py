"""HTTP for the control API: the one module that knows what is inside uvicorn.

uvicorn promises none of what is subclassed here: `pyproject.toml` bounds its versions, and ``tests/test_transport.py``
pins the behaviour that this module relies on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Self, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import peer

MAX_CONNECTIONS = 512
"""With more, requests are answered with status 503."""
SPARE_CONNECTIONS = 64
"""So many more are there to be told that; any further is closed."""
ACCEPTED_AT_ONCE = 32
"""Of those that wait. asyncio has four times as many open before the first that is too many is closed: with the above
that stays well below 1024, the usual limit of descriptors."""
BACKLOG = 2048
"""So many may wait to be accepted: to a Unix socket, one more would be an error."""
MAX_TCP_CONNECTIONS = 64
"""Any further one is closed: unauthenticated clients cannot use up the connections of others."""
HEAD_S = 10.0
"""In which a connection must come to its first request."""
GRACE_S = 1
"""Requests that are under way at a shutdown get this long."""


class HttpProtocol(H11Protocol):
    """HTTP/1.1 for this user's processes, and over TCP for those that `Guard` lets in."""

    guard: Callable[[ASGIApp], ASGIApp] | None = None
    """Set by the server where TCP is asked for."""
    _patience: asyncio.TimerHandle | None = None
    """None for a connection that was not let in."""

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
        """On a client that has not come to a request."""
        if cast("object | None", self.cycle) is None:
            self.transport.abort()


def behind(guard: Callable[[ASGIApp], ASGIApp]) -> type[HttpProtocol]:
    """The protocol, with `guard` before what comes over TCP."""

    class Guarded(HttpProtocol):
        pass

    Guarded.guard = staticmethod(guard)
    return Guarded


class GuestServer(uvicorn.Server):
    """uvicorn as a guest in our loop: it leaves signals alone, and waits for an event instead of ticking."""

    @classmethod
    def of(cls, app: ASGIApp, protocol: type[HttpProtocol]) -> Self:
        """A server of `app`."""
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
        # To asyncio one number is both how many may wait and how many it accepts at once.
        for listener in sockets or ():
            listener.listen(BACKLOG)

    async def listen(self, listener: socket.socket) -> None:
        """Serve another Unix socket in the place of the first; connections that there are stay."""
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
