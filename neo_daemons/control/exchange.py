"""One HTTP request to a supervisor and its answer: as much of HTTP/1.1 as the control API uses.

`http.client` also loads TLS and email, which would take a third of the time of a command.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

CHUNK = 65_536
MAX_LINE = 65_536
"""How long a line of the head may be, with its end."""
MAX_HEADERS = 100


class InvalidAnswer(ValueError):
    """The answer is not HTTP."""


class Interrupted(ConnectionError):
    """The connection was closed before the answer was complete."""


class Answer:
    """The answer to a request, whose body can be read once.

    Args:
        connection: the request was sent there.

    Raises:
        Interrupted, ConnectionError, TimeoutError: by every method, if the answer is not complete.
        InvalidAnswer: by every method, if it is not HTTP.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        version, _, rest = self._line().partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise InvalidAnswer(f"not an HTTP answer: {version[:50]!r}")
        self.status = _number(rest.partition(b" ")[0], 10)
        headers = dict(self._headers())
        self._chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._left = 0 if self._chunked else _number(headers.get(b"content-length", b""), 10)
        """How much of the body, or of the present chunk, has not been read."""

    def _line(self) -> bytes:
        line = self._file.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            if len(line) == MAX_LINE:
                raise InvalidAnswer("a line without end")
            raise Interrupted
        return line.rstrip(b"\r\n")

    def _headers(self) -> Iterator[tuple[bytes, bytes]]:
        for _ in range(MAX_HEADERS):
            line = self._line()
            if not line:
                return
            name, _, value = line.partition(b":")
            yield name.lower(), value.strip()
        raise InvalidAnswer("too many headers")

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces, as they arrive."""
        while True:
            if self._chunked and not self._left:
                self._left = _number(self._line().partition(b";")[0], 16)
                if not self._left:
                    return
            elif not self._left:
                return
            piece = self._file.read1(min(self._left, CHUNK))
            if not piece:
                raise Interrupted
            self._left -= len(piece)
            if self._chunked and not self._left:
                self._line()  # the end of the chunk
            yield piece

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
    fields = {"Host": "neo-daemons", **headers}
    if body is not None or method != "GET":
        fields["Content-Length"] = str(len(body or b""))
    head = "".join([f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items())])
    connection.sendall(f"{head}\r\n".encode("ascii") + (body or b""))
    return Answer(connection)


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        number = -1
    if number < 0:
        raise InvalidAnswer(f"not a number: {text[:50]!r}")
    return number
