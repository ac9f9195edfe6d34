"""One HTTP request to a supervisor and its answer, by h11.

`http.client` also loads TLS and email, which takes a third of the time of a command.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

import h11

CHUNK = 65_536


class InvalidAnswer(ValueError):
    """The answer is not HTTP."""


class Interrupted(ConnectionError):
    """The connection was closed before the answer was complete."""


class Answer:
    """The answer to a request, whose body can be read once.

    Args:
        connection: the request was sent there.
        http: the state of the protocol after the request.

    Raises:
        Interrupted, ConnectionError, TimeoutError: by every method, if the answer is not complete.
        InvalidAnswer: by every method, if it is not HTTP.
    """

    def __init__(self, connection: socket.socket, http: h11.Connection) -> None:
        self._connection = connection
        self._http = http
        self._closed = False
        head = self._next()
        while isinstance(head, h11.InformationalResponse):
            head = self._next()
        if not isinstance(head, h11.Response):
            raise Interrupted
        self.status = head.status_code

    def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = self._connection.recv(CHUNK)
                self._closed = not data
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            if self._closed:
                raise Interrupted from None
            raise InvalidAnswer(str(error)) from None
        return event

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces, as they arrive."""
        while isinstance(event := self._next(), h11.Data):
            yield bytes(event.data)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the body, as they arrive."""
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
        if rest:
            yield rest

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.pieces())


def ask(
    connection: socket.socket, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> Answer:
    """Send a request and return its answer once the head of that has arrived.

    Raises:
        ConnectionError, TimeoutError: the supervisor does not answer.
        InvalidAnswer: it does, but not by HTTP.
    """
    http = h11.Connection(h11.CLIENT)
    fields = {"Host": "neo-daemons", **headers, "Content-Length": str(len(body or b""))}
    request = h11.Request(method=method, target=target, headers=list(fields.items()))
    events = (request, h11.Data(body or b""), h11.EndOfMessage())
    connection.sendall(b"".join(http.send(event) or b"" for event in events))
    return Answer(connection, http)
