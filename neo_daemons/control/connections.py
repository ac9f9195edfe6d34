"""Work that lasts as long as a connection: until the client disconnects or the server shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from .web import Request

LAST_WORDS_S = 0.05
"""At a shutdown a follower still gets what can be read within this time, which is far more than reading takes."""

T = TypeVar("T")


async def until_closing(pieces: AsyncIterator[T], closing: asyncio.Event) -> AsyncGenerator[T, None]:
    """Yield `pieces` as they come until `closing` is set, and then those that are left."""
    closed = asyncio.ensure_future(closing.wait())
    following: asyncio.Future[T] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(pieces))
            await asyncio.wait({following, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                await asyncio.wait({following}, timeout=LAST_WORDS_S)
            if not following.done():
                return
            yield following.result()
    finally:
        tasks = [task for task in (following, closed) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Do `work` while a client stays connected; return its result, or None if the client disconnected."""
    working, listening = asyncio.ensure_future(work), asyncio.ensure_future(request.lost())
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)
