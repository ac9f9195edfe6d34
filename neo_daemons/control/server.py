"""The control API's server: routes over a supervisor, on a Unix socket, within the supervisor's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from neo_daemons.definitions import Definition
from neo_daemons.status import Change
from neo_daemons.supervision.daemon import Daemon
from neo_daemons.supervision.machine import SETTLING, Event, Refused, State
from neo_daemons.supervision.supervisor import Supervisor, UnknownDaemon

from . import address, api

MAX_CONNECTIONS = 512
GRACE_S = 1
"""Requests that are under way at a shutdown get this long."""
PATIENT_FAILURES = 2
"""A daemon that has failed this often in a row is reported as failing to whoever waits for it, instead of letting him
wait through the whole backoff."""

B = TypeVar("B", bound=msgspec.Struct)
T = TypeVar("T")


class Controlled(Protocol):
    """What the API needs beside the supervisor: its owner."""

    supervisor: Supervisor

    async def reload(self, *, dry_run: bool) -> list[Change]:
        """Read the configuration again and bring the daemons in line with it.

        Raises:
            ConfigError: the configuration cannot be used; nothing was changed.
        """

    def ask_to_stop(self, *, detach: bool) -> None:
        """Begin to shut down."""

    @property
    def session(self) -> Session | None:
        """What more a supervisor can that exists for a session, of tests mostly; None for one that is there to stay."""


class Session(Protocol):
    """A supervisor that lives as long as somebody holds a lease, and starts daemons on demand."""

    def lease_taken(self, lease: int, *, owner: bool) -> None:
        """Somebody holds this lease from now on.

        Raises:
            Refused: too late, the session ends.
        """

    def lease_dropped(self, lease: int) -> None:
        """Nobody does any more."""

    def ordered(self, name: str) -> None:
        """A daemon has been given an order: what was known of its failures is past."""

    async def need(self, name: str, wait_s: float) -> api.Needed:
        """Start a daemon unless it runs, and wait for the outcome."""

    async def define(self, definition: Definition) -> Daemon:
        """Add a daemon, or change it.

        Raises:
            Refused: it has been changed to something else already.
        """

    async def remove(self, name: str) -> None:
        """End a daemon and forget it."""

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        """Take the definitions of another user of the session."""


class BadRequest(Exception):
    """A request that cannot be understood; ``str()`` says why."""


def settled(daemon: Daemon) -> bool:
    """It is ready, or will not be without somebody's help, or keeps failing."""
    if daemon.dropped:
        return True
    if daemon.waiting_for is not None:
        other = daemon.site.daemons.get(daemon.waiting_for)
        return other is not None and not other.ready and settled(other)
    if daemon.state is State.BACKOFF:
        return daemon.history.failures >= PATIENT_FAILURES
    return daemon.state not in SETTLING


class _Protocol(H11Protocol):
    """HTTP/1.1 for this user's processes only."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection = transport.get_extra_info("socket")
        if not address.peer_may_enter(connection):
            transport.abort()
            return
        super().connection_made(transport)


class _Uvicorn(uvicorn.Server):
    """uvicorn as a guest in our loop: it leaves signals alone, and waits for an event instead of ticking."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop_asked = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.stop_asked.wait()


class ControlServer:
    """Serves the control API of one supervisor."""

    def __init__(self, controlled: Controlled, path: Path) -> None:
        self._controlled = controlled
        self._path = path
        self._leases = itertools.count(1)
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            StateDirError: the socket cannot be made.
        """
        self._socket = address.bind(self._path)
        self._inode = self._path.stat().st_ino
        config = uvicorn.Config(
            self._app(),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Close, and remove the socket."""
        if self._server is not None and self._task is not None:
            self._server.stop_asked.set()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _app(self) -> Starlette:
        def route(path: str, handler: Callable[[Request], Awaitable[Response]], method: str) -> Route:
            return Route(f"/{api.VERSION}{path}", self._answering(handler), methods=[method])

        return Starlette(
            routes=[
                route("/status", self._status, "GET"),
                route("/events", self._events, "GET"),
                route("/session", self._set_up, "PUT"),
                route("/daemons/{name}", self._define, "PUT"),
                route("/daemons/{name}", self._remove, "DELETE"),
                route("/daemons/{name}/why", self._why, "GET"),
                route("/daemons/{name}/logs", self._logs, "GET"),
                route("/daemons/{name}/need", self._need, "POST"),
                route("/daemons/{name}/signal", self._signal, "POST"),
                route("/daemons/{name}/{order}", self._order, "POST"),
                route("/reload", self._reload, "POST"),
                route("/shutdown", self._shutdown, "POST"),
                route("/leases", self._lease, "POST"),
            ]
        )

    def _answering(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Every fault is an answer."""
        from neo_daemons.config import ConfigError

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except BadRequest as error:
                return _json(api.Fault(str(error)), 400)
            except UnknownDaemon as error:
                return _json(api.Fault(str(error)), 404)
            except (Refused, ConfigError) as error:
                return _json(api.Fault(str(error)), 409)

        return answer

    @property
    def _supervisor(self) -> Supervisor:
        return self._controlled.supervisor

    async def _status(self, request: Request) -> Response:
        return _json(self._supervisor.status())

    async def _why(self, request: Request) -> Response:
        return _json(self._supervisor.explain(request.path_params["name"]))

    async def _events(self, request: Request) -> Response:
        count, follow = _window(request)
        name = request.query_params.get("daemon")
        if name is not None:
            self._supervisor.daemon(name)
        if not follow:
            return _json(self._supervisor.events(count, name))

        async def lines() -> AsyncIterator[bytes]:
            async for entry in self._supervisor.journal.follow(count, name):
                yield msgspec.json.encode(entry) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def _logs(self, request: Request) -> Response:
        count, follow = _window(request)
        log = self._supervisor.daemon(request.path_params["name"]).log
        if not follow:
            return Response("".join(f"{line}\n" for line in log.tail(count)), media_type="text/plain")
        return StreamingResponse(log.follow(count), media_type="text/plain")

    async def _order(self, request: Request) -> Response:
        name, order = request.path_params["name"], request.path_params["order"]
        if order not in api.ORDERS:
            raise BadRequest(f"unknown order {order!r}; known: {', '.join(api.ORDERS)}")
        body = await _body(request, api.Order)
        try:
            self._supervisor.order(name, Event(order))
        except Refused as error:
            raise Refused(f"cannot {order} {name}: {error}") from None
        if self._controlled.session is not None:
            self._controlled.session.ordered(name)
        if body.wait_s:
            await _while_connected(request, self._outcome(name, body.wait_s))
        self._supervisor.daemon(name)  # a reload may have removed it meanwhile
        return _json(self._supervisor.status().daemon(name))

    async def _outcome(self, name: str, wait_s: float) -> None:
        """Until a daemon, or what a reload has put in its place, has settled."""
        loop, supervisor = asyncio.get_running_loop(), self._supervisor
        deadline = loop.time() + wait_s
        while (left_s := deadline - loop.time()) > 0:
            daemon = supervisor.daemons.get(name)
            if daemon is None or (name not in supervisor.changing and settled(daemon)):
                return
            await supervisor.site.changed.wait(left_s)

    async def _reload(self, request: Request) -> Response:
        body = await _body(request, api.Reload)
        return _json(await self._controlled.reload(dry_run=body.dry_run))

    async def _shutdown(self, request: Request) -> Response:
        body = await _body(request, api.Shutdown)
        self._controlled.ask_to_stop(detach=body.detach)
        return _json(self._supervisor.status())

    async def _lease(self, request: Request) -> Response:
        body = await _body(request, api.LeaseRequest)
        if body.inhibit not in (None, "*"):
            self._supervisor.daemon(str(body.inhibit))
        lease = next(self._leases)
        if self._controlled.session is not None:
            self._controlled.session.lease_taken(lease, owner=body.owner)
        return _Lease(self._controlled, lease, body)

    def _session(self) -> Session:
        if self._controlled.session is None:
            raise Refused("this supervisor is there to stay: only one that pytest started can do that")
        return self._controlled.session

    async def _set_up(self, request: Request) -> Response:
        settings = await _body(request, api.SessionSettings, api.MAX_DEFINITIONS_BYTES)
        return _json(await self._session().set_up(settings))

    async def _define(self, request: Request) -> Response:
        definition = await _body(request, Definition, api.MAX_DEFINITIONS_BYTES)
        if definition.name != request.path_params["name"]:
            raise BadRequest(f"the definition is of {definition.name!r}")
        daemon = await self._session().define(definition)
        return _json(daemon.status(None))

    async def _remove(self, request: Request) -> Response:
        await self._session().remove(request.path_params["name"])
        return _json({})

    async def _need(self, request: Request) -> Response:
        body = await _body(request, api.Need)
        answer = self._session().need(request.path_params["name"], body.wait_s)
        return _json(await _while_connected(request, answer))

    async def _signal(self, request: Request) -> Response:
        body = await _body(request, api.Signal)
        self._session()
        daemon = self._supervisor.daemon(request.path_params["name"])
        if not await daemon.signal(getattr(signal, body.signal)):
            raise Refused(f"cannot send {body.signal} to {daemon.name}: it has no process; it is {daemon.state.public}")
        return _json(daemon.status(None))


class _Lease(Response):
    """Answers with one line, then lasts until the client hangs up: the kernel tells, however it died."""

    def __init__(self, controlled: Controlled, number: int, request: api.LeaseRequest) -> None:
        super().__init__()
        self._controlled = controlled
        self._number = number
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inhibitors = self._controlled.supervisor.inhibitors
        if self._request.inhibit is not None:
            inhibitors[self._number] = None if self._request.inhibit == "*" else self._request.inhibit
        try:
            headers = [(b"content-type", b"application/x-ndjson")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            line = msgspec.json.encode(api.LeaseGranted(self._number)) + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            inhibitors.pop(self._number, None)
            if self._controlled.session is not None:
                self._controlled.session.lease_dropped(self._number)


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, unless the client hangs up first: nobody waits for nobody."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, listening = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _window(request: Request) -> tuple[int, bool]:
    text = request.query_params.get("n", "20")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > api.MAX_LINES:
        raise BadRequest(f"n = {text[:50]!r}: expected a number from 0 to {api.MAX_LINES}")
    follow = request.query_params.get("follow", "0")
    if follow not in ("0", "1"):
        raise BadRequest(f"follow = {follow[:50]!r}: expected 0 or 1")
    return int(text), follow == "1"


async def _body(request: Request, kind: type[B], limit: int = api.MAX_BODY_BYTES) -> B:
    data = b""
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                raise BadRequest(f"the body is larger than {limit} bytes")
    except ClientDisconnect:
        raise BadRequest("the body is not complete") from None
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body: {error}") from None
