"""An MCP server that keeps notes in chroma, says how chroma is, and can neither start nor stop it.

It finds chroma by the project that it is started in, anew for each call: chroma may come, go and move to another port
while it runs.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from neo_daemons.health import ChromaObserver, DatabaseLifecycleService

os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # chroma is on this machine, and there is nobody else to ask
server = MCPServer("notes")
chroma = ChromaObserver()


@server.tool()
async def remember(text: str) -> str:
    """Keep a note."""
    key = uuid.uuid4().hex
    # Notes are not looked for by their meaning here, which would need a model; any vector will do.
    await with_notes(lambda notes: notes.add(ids=[key], documents=[text], embeddings=[[1.0]]))
    return key


@server.tool()
async def recall() -> list[str]:
    """All notes."""
    found: list[str] = await with_notes(lambda notes: notes.get(include=["documents"])["documents"])
    return found


@server.tool()
async def healthcheck() -> dict[str, Any]:
    """How chroma is, as it is seen now."""
    return (await chroma.acheck()).as_dict()


@server.tool()
def start_database() -> dict[str, Any]:
    """Starts nothing: says whether chroma runs, and else the command that asks the orchestrator for it."""
    return DatabaseLifecycleService(chroma).start_database()


async def with_notes(use: Callable[[Any], Any]) -> Any:
    """What `use` makes of the collection, where chroma is now."""
    try:
        seen = await chroma.aensure_healthy()
        return await asyncio.to_thread(_with_notes_at, str(seen.url), use)
    except Exception as error:
        # It is not healthy, or was gone after all. Of other errors than this one the SDK may tell its client no more
        # than that there was one.
        raise ToolError(str(error)) from error


def _with_notes_at(url: str, use: Callable[[Any], Any]) -> Any:
    import chromadb  # takes seconds, which the start of the server need not wait for
    from chromadb.config import Settings

    class Stated(Settings):
        """What is stated here, and nothing of CHROMA_* variables and .env files, which are about another chroma."""

        @classmethod
        def settings_customise_sources(cls, *_: Any, init_settings: Any, **others: Any) -> Any:
            return (init_settings,)

    settings = Stated(anonymized_telemetry=False, chroma_server_ssl_verify=False)
    client: Any = chromadb.HttpClient(host=url, settings=settings)
    with client:  # closed each time: a connection that idles would delay chroma's end
        return use(client.get_or_create_collection("notes", embedding_function=None))


if __name__ == "__main__":
    server.run()
