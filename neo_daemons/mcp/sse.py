"""Server-sent events, as streamable HTTP uses them (HTML standard, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

MAX_EVENT_BYTES = 64_000_000
"""The longest line and event that are taken: longer ones are no messages."""


class TooLong(Exception):
    """The server sent more than `MAX_EVENT_BYTES` at once."""


class ServerEvent(NamedTuple):
    """One event. `retry_ms` is how long to wait before a reconnection, if the server has said so."""

    data: bytes
    id: str | None
    retry_ms: int | None


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[ServerEvent]:
    """Yield the events of a response.

    Raises:
        TooLong: see there.
    """
    data: list[bytes] = []
    last_id: str | None = None
    retry_ms: int | None = None
    async for line in _lines(pieces):
        if not line:
            if data or last_id is not None or retry_ms is not None:
                yield ServerEvent(b"\n".join(data), last_id, retry_ms)
            data = []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
            if sum(map(len, data)) > MAX_EVENT_BYTES:
                raise TooLong
        elif field == b"id" and b"\0" not in value:
            last_id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit():
            retry_ms = int(value[:9])


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines without their ends: LF or CRLF. A CR alone, which the standard allows, is sent by nobody."""
    parts: list[bytes] = []
    size = 0
    async for piece in pieces:
        first, *rest = piece.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > MAX_EVENT_BYTES:
            raise TooLong
        for part in rest:
            yield b"".join(parts).removesuffix(b"\r")
            parts, size = [part], len(part)
