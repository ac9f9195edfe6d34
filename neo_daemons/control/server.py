"""The control API's server: it routes requests to their handlers and turns exceptions into answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from neo_daemons.supervision.machine import Refused
from neo_daemons.supervision.supervisor import UnknownDaemon

from . import api, openapi
from .bodies import BadRequest, Endless
from .handlers import Handlers, NotInstalled
from .http_server import Handler
from .protocols import Controlled
from .tcp_listener import TcpListener
from .transport import Transport
from .web import Request, Response, json_response

NAME = "{name}"


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
        handlers = Handlers(controlled, self._closing)
        self._routes = Routes()
        for operation in openapi.OPERATIONS:
            path_of = api.route(operation.path)
            self._routes.add(operation.method, path_of, getattr(handlers, operation.handler))
        self._transport = Transport(self._answer, path, tcp)

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

    async def _answer(self, request: Request) -> Response:
        """Carry out a request. Faults become answers."""
        from neo_daemons.config.errors import ConfigError

        handlers = self._routes.find(request)
        if handlers is None:
            known = f"GET /{api.VERSION}/openapi.json lists all paths"
            return json_response(api.Fault(f"unknown path {request.path[:200]!r}; {known}"), 404)
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted({*handlers, *({"HEAD"} if "GET" in handlers else ())}))
            text = f"{request.method[:20]} is not possible here; use {allowed}"
            return json_response(api.Fault(text), 405, {"allow": allowed})
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
        except NotInstalled as error:
            return json_response(api.Fault(str(error)), 501)


class Routes:
    """Finds the handlers of a path, by method."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, ...], dict[str, Handler]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Add a handler. `NAME` in a path stands for any name."""
        self._handlers.setdefault(tuple(path.split("/")), {})[method] = handler

    def find(self, request: Request) -> Mapping[str, Handler] | None:
        """Return the handlers of a request's path, whose names are then in `request.names`; None if there are none."""
        parts = request.path.split("/")
        for known, handlers in self._handlers.items():
            if len(known) == len(parts) and all(
                one == other or (one == NAME and other) for one, other in zip(known, parts, strict=True)
            ):
                request.names = {one.strip("{}"): other for one, other in zip(known, parts, strict=True) if one == NAME}
                return handlers
        return None
