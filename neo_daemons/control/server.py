"""The control API's server: it routes requests to their handlers and turns exceptions into answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neo_daemons.supervision.machine import Refused
from neo_daemons.supervision.supervisor import UnknownDaemon

from . import api, openapi
from .bodies import BadRequest, Endless
from .handlers import Handlers, json_response
from .protocols import Controlled
from .tcp_listener import TcpListener
from .transport import Transport

Handler = Callable[[Request], Awaitable[Response]]


class ControlServer:
    """Serves the control API of one supervisor, within its event loop.

    Args:
        controlled: the owner of the supervisor.
        path: the path of the Unix socket.
        tcp: also serve over TCP.
    """

    def __init__(self, controlled: Controlled, path: Path, tcp: TcpListener | None = None) -> None:
        self._supervisor = controlled.supervisor
        self._closing = asyncio.Event()
        self._handlers = Handlers(controlled, self._closing)
        self._transport = Transport(self._app(), path, tcp, self._closing)

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._transport.path

    def start(self) -> None:
        """Listen.

        Raises:
            StateDirError: the socket cannot be created.
        """
        self._transport.start()

    async def stop(self) -> None:
        """Close, and remove the socket."""
        self._closing.set()
        for daemon in self._supervisor.daemons.values():
            daemon.slot.log.rotated.notify()  # wakes its followers to read the last lines
        await self._transport.stop()

    async def listen_again(self) -> bool:
        """Recreate the socket if it was removed, and return whether it was. Connections stay open.

        Raises:
            StateDirError, OSError: it cannot be created.
        """
        return await self._transport.listen_again(self._supervisor.state_dir.path)

    def _app(self) -> Starlette:
        paths: dict[str, dict[str, Handler]] = {}
        for operation in openapi.OPERATIONS:
            handler = self._answering(getattr(self._handlers, operation.handler))
            paths.setdefault(operation.path, {})[operation.method] = handler
        return Starlette(
            routes=[
                Route(f"/{api.VERSION}{path}", _by_method(handlers), methods=list(handlers))
                for path, handlers in paths.items()
            ],
            exception_handlers={404: _no_such_path},
        )

    def _answering(self, handler: Handler) -> Handler:
        """Return `handler` with its exceptions turned into answers."""
        from neo_daemons.config.errors import ConfigError

        async def answer(request: Request) -> Response:
            meant = request.headers.get(api.DIRECTORY_HEADER)
            if meant is not None and not self._supervisor.upkeep.is_in(meant):
                text = f"wrong supervisor: this one serves {self._supervisor.state_dir.path}"
                return json_response(api.Fault(text), 421)
            try:
                return await handler(request)
            except BadRequest as error:
                headers = {"connection": "close"} if isinstance(error, Endless) else None
                return json_response(api.Fault(str(error)), error.status, headers)
            except UnknownDaemon as error:
                return json_response(api.Fault(str(error)), 404)
            except (Refused, ConfigError) as error:
                return json_response(api.Fault(str(error)), 409)

        return answer


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return answer


async def _no_such_path(request: Request, error: Exception) -> Response:
    known = f"GET /{api.VERSION}/openapi.json lists all paths"
    return json_response(api.Fault(f"unknown path {request.url.path[:200]!r}; {known}"), 404)
