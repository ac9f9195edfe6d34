"""HTTP/1.1 for the control API, by h11, on sockets of asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
from collections.abc import Awaitable, Callable

import h11

from neo_daemons.supervision import faults

from . import api, peer
from .web import Request, Response, json_response

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
KEPT_S = 30.0
"""A connection must send its next request within this."""
GRACE_S = 1.0
"""At a shutdown, running requests may take this much longer."""
SENT_AHEAD_BYTES = 1 << 19
"""So much of an answer may wait for its client in the kernel, as far as that permits: while the loop is busy, each
further part of it waits for another turn."""
UNREAD_BYTES = 65_536
"""With more of a body than this waiting for its handler, no more is taken from the connection."""

Handler = Callable[[Request], Awaitable[Response]]
Guard = Callable[[Request], Response | None]
"""Returns the response to a request that must not reach its handler."""


class HttpServer:
    """Serves requests on any number of sockets.

    Args:
        guard: for connections that come over TCP.
    """

    def __init__(self, handler: Handler, guard: Guard | None = None) -> None:
        self.handler = handler
        self.guard = guard
        self.connections: set[Connection] = set()
        self._listening: dict[socket.socket, asyncio.Server] = {}

    async def listen(self, listener: socket.socket) -> None:
        """Serve a listening socket, too."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=ACCEPTED_AT_ONCE)
        # asyncio uses one number for how many connections may wait and how many it accepts at once.
        listener.listen(BACKLOG)
        self._listening[listener] = server

    def stop_listening(self, listener: socket.socket) -> None:
        """Close a listening socket. Connections stay open."""
        self._listening.pop(listener).close()

    def admits(self, link: socket.socket) -> bool:
        """Whether there may be one more connection."""
        if link.family != socket.AF_UNIX:
            return sum(connection.is_remote for connection in self.connections) < MAX_TCP_CONNECTIONS
        return len(self.connections) < MAX_CONNECTIONS + SPARE_CONNECTIONS and peer.may_enter(link)

    async def close(self) -> None:
        """Close all sockets. Running requests have `GRACE_S` to finish."""
        for listener in list(self._listening):
            self.stop_listening(listener)
        for connection in list(self.connections):
            connection.finish()
        if self.connections:
            await asyncio.wait([connection.ended for connection in self.connections], timeout=GRACE_S)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One connection, with at most one request at a time."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._patience: asyncio.TimerHandle | None = None
        self._request: Request | None = None
        """The request that is being answered."""
        self._answering: asyncio.Task[None] | None = None
        self._streams = False
        self._last = False
        """Whether the connection is closed after this request."""
        self._writable = asyncio.Event()
        self._writable.set()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is closed."""
        self.is_remote = False
        """Whether it comes over TCP."""

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        link = transport.get_extra_info("socket")
        if not self._server.admits(link):
            transport.abort()
            return
        self.is_remote = link.family != socket.AF_UNIX
        with contextlib.suppress(OSError):  # some systems refuse more than they permit
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_AHEAD_BYTES)
        self._server.connections.add(self)
        self._wait_for_request(HEAD_S)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._end_patience()
        self._writable.set()
        if self._request is not None:
            self._request.lose()
        if self._streams and self._answering is not None:
            self._answering.cancel()
        self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._advance()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by the server

    def finish(self) -> None:
        """Close the connection after the request that is being answered, if any."""
        self._last = True
        if self._answering is None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._answering is not None:
            self._answering.cancel()
        self._transport.abort()

    # Requests

    def _wait_for_request(self, patience_s: float) -> None:
        self._end_patience()
        self._patience = self._loop.call_later(patience_s, self._transport.abort)

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _advance(self) -> None:
        """Take in what has arrived."""
        # What follows the last request is of no interest.
        while not self._transport.is_closing() and self._http.their_state is not h11.MUST_CLOSE:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(str(error))
                return
            if event is h11.NEED_DATA:
                return
            if event is h11.PAUSED:  # the next request, before this one was answered
                self._transport.pause_reading()
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data) and self._request is not None:
                if self._request.feed(event.data) > UNREAD_BYTES:
                    self._transport.pause_reading()
            elif isinstance(event, h11.EndOfMessage):
                if self._request is not None:
                    self._request.complete()
                else:  # the rest of a request that was answered before it was complete
                    self._go_on()

    def _refuse(self, why: str) -> None:
        """Answer what is not HTTP, and close the connection."""
        if self._request is not None:
            self._request.lose()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self._answering is None:
            self._write_whole(json_response(api.Fault(f"invalid HTTP request: {why}"), 400, {"connection": "close"}))
        self._transport.close()

    def _begin(self, event: h11.Request) -> None:
        self._end_patience()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        self._request = Request(event.method.decode(), event.target.decode(), headers, self._wanted)
        self._request.pid = peer.pid(self._transport.get_extra_info("socket"))
        self._answering = self._loop.create_task(self._answer(self._request))

    def _wanted(self) -> None:
        """The handler wants more of the body, or to know when the client disconnects."""
        if self._transport.is_closing():
            return
        if self._http.they_are_waiting_for_100_continue and self._http.our_state is h11.SEND_RESPONSE:
            self._transport.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        self._transport.resume_reading()

    # Responses

    async def _answer(self, request: Request) -> None:
        response = None
        try:
            response = await self._respond(request)
            await self._send(request, response)
        except Exception as error:
            faults.report(f"{request.method} {request.path}", error)
            self._transport.abort()
        finally:
            if response is not None and response.done is not None:
                response.done()
            self._streams = False
            self._request = self._answering = None
        self._go_on()

    async def _respond(self, request: Request) -> Response:
        server = self._server
        if len(server.connections) > MAX_CONNECTIONS:
            return json_response(api.Fault("too many connections; try again later"), 503, {"connection": "close"})
        refusal = server.guard(request) if self.is_remote and server.guard is not None else None
        if refusal is not None:
            return refusal
        try:
            return await server.handler(request)
        except Exception as error:
            faults.report(f"{request.method} {request.path}", error)
            text = "internal error: the log of the supervisor has the details"
            return json_response(api.Fault(text), 500, {"connection": "close"})

    async def _send(self, request: Request, response: Response) -> None:
        await self._writable.wait()
        if request.is_lost or self._transport.is_closing():
            return
        if isinstance(response.body, bytes):
            self._write_whole(response, with_body=request.method != "HEAD")
            return
        self._streams = True
        self._transport.write(self._http.send(self._head(response)) or b"")
        async with contextlib.aclosing(response.body) as pieces:
            if request.method != "HEAD":
                async for piece in pieces:
                    self._transport.write(self._http.send(h11.Data(data=piece)) or b"")
                    await self._writable.wait()
        self._transport.write(self._http.send(h11.EndOfMessage()) or b"")

    def _write_whole(self, response: Response, *, with_body: bool = True) -> None:
        assert isinstance(response.body, bytes)
        body = response.body if with_body else b""
        events = [self._head(response, len(response.body)), h11.Data(data=body), h11.EndOfMessage()]
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))

    def _head(self, response: Response, length: int | None = None) -> h11.Response:
        headers = {"content-type": response.media_type, **response.headers}
        if length is not None:
            headers["content-length"] = str(length)
        if self._last:
            headers["connection"] = "close"
        return h11.Response(
            status_code=response.status,
            headers=list(headers.items()),
            reason=http.HTTPStatus(response.status).phrase,
        )

    def _go_on(self) -> None:
        """Close the connection after a response, or prepare for the next request."""
        if self._transport.is_closing():
            return
        if self._http.our_state is not h11.DONE:
            self._transport.close()
        elif self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._wait_for_request(KEPT_S)
            self._transport.resume_reading()
            self._advance()
        else:
            # The rest of the body is read and dropped.
            self._wait_for_request(KEPT_S)
            self._transport.resume_reading()
