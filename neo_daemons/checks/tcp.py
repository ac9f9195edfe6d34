"""Asking whether a TCP port accepts connections."""

from __future__ import annotations

import asyncio


async def connect(host: str, port: int) -> None:
    """Connect, send nothing, and hang up.

    Raises:
        OSError: there is no connection.
        ValueError: the host cannot be one.
    """
    _, writer = await asyncio.open_connection(host, port)
    writer.transport.abort()
