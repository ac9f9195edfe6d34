"""Read request bodies, within limits of size and time, and the window that a query asks for."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from . import api
from .web import Disconnected, Request

BODY_S = 30.0
"""The time limit for a request's body."""
TURNS = 3
"""After so many turns of the loop we have noticed a disconnect that arrived together with the request, as happens to
requests that waited while this process was suspended."""
MAX_DISCARDED_BYTES = 1_000_000
"""How much of a too large body is read past the limit, so that the client can still read the answer."""

B = TypeVar("B", bound=msgspec.Struct)


class BadRequest(Exception):
    """A request is invalid; ``str()`` says why."""

    status = 400


class Endless(BadRequest):
    """A request body is not complete in time or far too large: the connection is closed after the answer."""

    status = 408


def window(request: Request) -> tuple[int, bool]:
    """Return how many of the latest items a query asks for, and whether to follow new ones.

    Raises:
        BadRequest: the query is invalid.
    """
    text = request.query.get("n", "20")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > api.MAX_LINES:
        raise BadRequest(f"n = {text[:50]!r}: expected an integer from 0 to {api.MAX_LINES}")
    follow = request.query.get("follow", "0")
    if follow not in ("0", "1"):
        raise BadRequest(f"follow = {follow[:50]!r}: expected 0 or 1")
    return int(text), follow == "1"


async def body(request: Request, kind: type[B], limit: int = api.MAX_BODY_BYTES) -> B:
    """Read the body of a request, of at most `limit` bytes; an empty one is the same as ``{}``.

    Raises:
        BadRequest: the body is too large, incomplete, or not a `kind`; or the client disconnected.
        Endless: the body did not arrive in time, or goes on far beyond the limit.
    """
    data, size = b"", 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.pieces():
                size += len(chunk)
                if size <= limit:
                    data += chunk
                elif size > limit + MAX_DISCARDED_BYTES:
                    raise Endless(f"the request body is larger than {limit} bytes")
    except TimeoutError:
        raise Endless("the request body did not arrive in time") from None
    except Disconnected:
        raise BadRequest("the request body is incomplete") from None
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if request.is_lost:
        raise BadRequest("the client disconnected")  # and may assume that nothing was done
    if size > limit:
        raise BadRequest(f"the request body is larger than {limit} bytes")
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"invalid request body: {error}") from None
