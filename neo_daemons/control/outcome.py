"""Wait for the outcome of an order."""

from __future__ import annotations

import asyncio

from neo_daemons.supervision.supervisor import Supervisor


async def wait_for_outcome(supervisor: Supervisor, name: str, wait_s: float) -> None:
    """Wait up to `wait_s` seconds until a daemon, or the one that a reload put in its place, has settled."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while (left_s := deadline - loop.time()) > 0:
        daemon = supervisor.daemons.get(name)
        if daemon is None or supervisor.is_settled(daemon):
            return
        await daemon.situation.change(left_s)
