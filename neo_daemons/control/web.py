"""Requests and responses of the control API, whatever carries them."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

JSON = "application/json"
LINES = "application/x-ndjson"
TEXT = "text/plain; charset=utf-8"


class Disconnected(Exception):
    """The client closed the connection before its request was complete."""


class Request:
    """A request whose head has arrived.

    Args:
        target: the path and the query.
        headers: by name in lower case.
        wanted: called when the body is read and none of it is there.
    """

    def __init__(self, method: str, target: str, headers: Mapping[str, str], wanted: Callable[[], None]) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.headers = headers
        self.names: Mapping[str, str] = {}
        """The names in the path, such as that of a daemon."""
        self.pid: int | None = None
        """The process that sends it, where the system tells."""
        self.is_lost = False
        """Whether the client has disconnected."""
        self._wanted = wanted
        self._body = bytearray()
        self._complete = False
        self._changed = asyncio.Event()

    # The connection

    def feed(self, data: bytes) -> int:
        """Add a piece of the body. Returns how much of it has not been read."""
        self._body += data
        self._changed.set()
        return len(self._body)

    def complete(self) -> None:
        """Note that the body is complete."""
        self._complete = True
        self._changed.set()

    def lose(self) -> None:
        """Note that the client has disconnected."""
        self.is_lost = True
        self._changed.set()

    # The handler

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces, as they arrive.

        Raises:
            Disconnected: the client has disconnected.
        """
        while True:
            if self._body:
                piece, self._body = bytes(self._body), bytearray()
                yield piece
            elif self._complete:
                return
            elif self.is_lost:
                raise Disconnected
            else:
                self._changed.clear()
                self._wanted()
                await self._changed.wait()

    async def lost(self) -> None:
        """Wait until the client disconnects."""
        while not self.is_lost:
            self._changed.clear()
            self._wanted()
            await self._changed.wait()


class Response(Struct, kw_only=True):
    """The answer to a request."""

    body: bytes | AsyncGenerator[bytes, None]
    """Whole, or in pieces as they come; when the client disconnects, it is cancelled."""
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = {}
    done: Callable[[], None] | None = None
    """Called once it has been sent, as far as the client took it."""


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that holds `value` as JSON."""
    return Response(body=msgspec.json.encode(value), status=status, headers=headers or {})
