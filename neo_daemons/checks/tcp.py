"""Checks whether a TCP port accepts connections."""

from __future__ import annotations

import asyncio


async def connect(host: str, port: int) -> None:
    """Connect, send nothing, and disconnect.

    Raises:
        OSError: the connection failed.
        ValueError: the host is invalid.
    """
    _, writer = await asyncio.open_connection(host, port)
    writer.transport.abort()
