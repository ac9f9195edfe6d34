"""Reading requests: their bodies, within limits of size and time, and the window that a query asks for."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from . import api

BODY_S = 30.0
"""A request's body must be there within this."""
TURNS = 3
"""After so many turns of the loop we have seen that a connection ended, if that came together with the request, as it
does for requests that waited while this process was stopped."""
MAX_DISCARDED_BYTES = 1_000_000
"""Of a body that is too large, this much is read past the limit, so that the client gets to read the answer."""

B = TypeVar("B", bound=msgspec.Struct)


class BadRequest(Exception):
    """A request that cannot be understood; ``str()`` says why."""

    status = 400


class Endless(BadRequest):
    """A request that does not come to its end, or not in time: the connection is closed with the answer."""

    status = 408


def window(request: Request) -> tuple[int, bool]:
    """How many of the latest items a query asks for, and whether it follows what comes after.

    Raises:
        BadRequest: the query says something else.
    """
    text = request.query_params.get("n", "20")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > api.MAX_LINES:
        raise BadRequest(f"n = {text[:50]!r}: expected a number from 0 to {api.MAX_LINES}")
    follow = request.query_params.get("follow", "0")
    if follow not in ("0", "1"):
        raise BadRequest(f"follow = {follow[:50]!r}: expected 0 or 1")
    return int(text), follow == "1"


async def body(request: Request, kind: type[B], limit: int = api.MAX_BODY_BYTES) -> B:
    """The body of a request, of at most `limit` bytes; an empty one is the same as ``{}``.

    Raises:
        BadRequest: it is too large, incomplete, or no `kind`; or the client has hung up.
        Endless: it does not come to its end.
    """
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
