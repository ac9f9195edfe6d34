"""Embeds a supervisor, deletes its control socket, and hangs until it is given a line."""

import asyncio
from pathlib import Path

from neo_daemons import AgentOrchestrator
from neo_daemons.config import load
from neo_daemons.control.address import socket_path


async def main() -> None:
    async with AgentOrchestrator(load()) as orchestrator:
        await orchestrator.wait_ready(60)
        socket_path(Path(".neo-daemons").resolve()).unlink()
        print("hangs", flush=True)
        input()  # noqa: ASYNC250 (it hangs on purpose)


asyncio.run(main())
