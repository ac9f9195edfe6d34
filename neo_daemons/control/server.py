"""The control API's server: routes over a supervisor, on a Unix socket, within the supervisor's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from neo_daemons.definitions import Definition
from neo_daemons.status import Change
from neo_daemons.supervision import faults
from neo_daemons.supervision.daemon import Daemon
from neo_daemons.supervision.machine import SETTLING, Event, Refused, State
from neo_daemons.supervision.supervisor import Supervisor, UnknownDaemon

from . import address, api, openapi
from .door import TcpDoor
from .transport import GuestServer, HttpProtocol, behind

BODY_S = 30.0
"""In which a request's body must be there."""
TURNS = 3
"""Of the loop, in which the end of a connection is seen that came together with the request, after we were stopped."""
LAST_WORDS_S = 0.05
"""In which a follower gets what is there at a shutdown; reading it takes far less."""
PATIENT_FAILURES = 2
"""A daemon that has failed this often in a row is reported as failing to those who wait for it, so that they need not
wait through the whole backoff."""

MAX_DISCARDED_BYTES = 1_000_000
"""Of a body that is too large: who sends it is told so, unless it does not come to an end."""

Handler = Callable[[Request], Awaitable[Response]]
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

    def settings(self) -> api.SessionSettings:
        """What the session was set up to be, without what `define` has changed since."""

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        """Take the definitions of another user of the session."""


class BadRequest(Exception):
    """A request that cannot be understood; ``str()`` says why."""

    status = 400


class Endless(BadRequest):
    """A request that does not come to its end, or not in time: the connection is closed with the answer."""

    status = 408


def settled(daemon: Daemon) -> bool:
    """It is ready, or will not be without somebody's help, or keeps failing."""
    if daemon.dropped:
        return True
    if daemon.waiting_for is not None:
        other = daemon.site.daemons.get(daemon.waiting_for)
        return other is not None and not other.ready and settled(other)
    if daemon.state is State.BACKOFF:
        return daemon.history.failures >= PATIENT_FAILURES
    return daemon.state not in SETTLING or daemon.overdue


class ControlServer:
    """Serves the control API of one supervisor.

    Args:
        controlled: the supervisor and its owner.
        path: of the Unix socket.
        door: another way in, over TCP.
    """

    def __init__(self, controlled: Controlled, path: Path, door: TcpDoor | None = None) -> None:
        self._controlled = controlled
        self.path = path
        self._door = door
        self._leases = itertools.count(1)
        self._server: GuestServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Listen.

        Raises:
            StateDirError: the socket cannot be made.
        """
        self._socket = address.bind(self.path)
        self._inode = self.path.stat().st_ino
        sockets, protocol = [self._socket], HttpProtocol
        if self._door is not None:
            sockets.append(self._door.listener)
            protocol = behind(self._door.guard)
        self._server = GuestServer.of(self._until_cut_off(self._app()), protocol)
        serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=sockets))
        self._task = faults.reported(serving, "serving the control API")

    async def stop(self) -> None:
        """Close, and remove the socket."""
        if self._server is not None and self._task is not None:
            self._closing.set()
            for daemon in self._supervisor.daemons.values():
                daemon.log.rotated.notify()  # its followers look for its last words
            self._server.stop_asked.set()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._door is not None:
            self._door.close()
        with contextlib.suppress(FileNotFoundError):
            if self._is_found():
                self.path.unlink()

    def _is_found(self) -> bool:
        """Whether the socket is at its path: cleaners of temporary files and the end of a login session remove it."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    async def listen_again(self) -> bool:
        """Make the socket again if it has been removed; whether that was so. Connections that there are stay.

        Raises:
            StateDirError, OSError: it cannot be made.
        """
        if self._door is not None:
            self._door.publish()
        if self._server is None or not self._server.started or self._is_found():
            return False
        path = address.socket_path(self._supervisor.state.path)  # the place may have gone, too
        listener = address.bind(path)
        self.path, self._inode = path, path.stat().st_ino
        await self._server.listen(listener)
        return True

    def _app(self) -> Starlette:
        paths: dict[str, dict[str, Handler]] = {}
        for operation in openapi.OPERATIONS:
            handler = self._answering(getattr(self, f"_{operation.handler}"))
            paths.setdefault(operation.path, {})[operation.method] = handler
        return Starlette(
            routes=[
                Route(f"/{api.VERSION}{path}", _by_method(handlers), methods=list(handlers))
                for path, handlers in paths.items()
            ]
        )

    def _until_cut_off(self, app: ASGIApp) -> ASGIApp:
        """`app`; that its grace is over at a shutdown is no fault to be reported."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                if not self._closing.is_set():
                    raise

        return run

    async def _until_closing(self, pieces: AsyncIterator[T]) -> AsyncIterator[T]:
        """What a follower gets: `pieces` as they come, and at a shutdown what is there yet."""
        closing = asyncio.ensure_future(self._closing.wait())
        following: asyncio.Future[T] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(pieces))
                await asyncio.wait({following, closing}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    await asyncio.wait({following}, timeout=LAST_WORDS_S)
                if not following.done():
                    return
                yield following.result()
        finally:
            tasks = [task for task in (following, closing) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _answering(self, handler: Handler) -> Handler:
        """Every fault is an answer."""
        from neo_daemons.config import ConfigError

        async def answer(request: Request) -> Response:
            meant = request.headers.get(api.DIRECTORY_HEADER)
            if meant is not None and not self._supervisor.is_in(meant):
                return _json(api.Fault(f"this is the supervisor of {self._supervisor.state.path}"), 421)
            try:
                return await handler(request)
            except BadRequest as error:
                headers = {"connection": "close"} if isinstance(error, Endless) else None
                return _json(api.Fault(str(error)), error.status, headers)
            except UnknownDaemon as error:
                return _json(api.Fault(str(error)), 404)
            except (Refused, ConfigError) as error:
                return _json(api.Fault(str(error)), 409)

        return answer

    @property
    def _supervisor(self) -> Supervisor:
        return self._controlled.supervisor

    async def _document(self, request: Request) -> Response:
        return Response(openapi.document(), media_type="application/json")

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

        return StreamingResponse(self._until_closing(lines()), media_type="application/x-ndjson")

    async def _logs(self, request: Request) -> Response:
        count, follow = _window(request)
        log = self._supervisor.daemon(request.path_params["name"]).log
        if not follow:
            lines = [*log.tail(count), *([remark] if (remark := log.remark()) else [])]
            return Response("".join(f"{line}\n" for line in lines), media_type="text/plain")
        return StreamingResponse(self._until_closing(log.follow(count)), media_type="text/plain")

    async def _order(self, request: Request) -> Response:
        name, order = request.path_params["name"], request.path_params["order"]
        if (methods := openapi.methods(f"/daemons/{{name}}/{order}")) and request.method not in methods:
            return Response("Method Not Allowed", 405, {"allow": ", ".join(methods)}, "text/plain")
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

    async def _settings(self, request: Request) -> Response:
        return _json(self._session().settings())

    async def _set_up(self, request: Request) -> Response:
        settings = await _body(request, api.SessionSettings, api.MAX_DEFINITIONS_BYTES)
        return _json(await self._session().set_up(settings))

    async def _define(self, request: Request) -> Response:
        definition = await _body(request, Definition, api.MAX_DEFINITIONS_BYTES)
        if definition.name != request.path_params["name"]:
            raise Refused(f"the definition is of {definition.name!r}")
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


def _by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return answer


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


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def _window(request: Request) -> tuple[int, bool]:
    text = request.query_params.get("n", "20")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > api.MAX_LINES:
        raise BadRequest(f"n = {text[:50]!r}: expected a number from 0 to {api.MAX_LINES}")
    follow = request.query_params.get("follow", "0")
    if follow not in ("0", "1"):
        raise BadRequest(f"follow = {follow[:50]!r}: expected 0 or 1")
    return int(text), follow == "1"


async def _body(request: Request, kind: type[B], limit: int = api.MAX_BODY_BYTES) -> B:
    data, size = b"", 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    data += chunk
                elif size > limit + MAX_DISCARDED_BYTES:
                    raise Endless(f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise Endless("the body did not come in time") from None
    except ClientDisconnect:
        raise BadRequest("the body is not complete") from None
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if await request.is_disconnected():
        raise BadRequest("the client has hung up")  # and was told that nothing was done
    if size > limit:
        raise BadRequest(f"the body is larger than {limit} bytes")
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body: {error}") from None
