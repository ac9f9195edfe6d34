"""An MCP server that keeps notes in chroma and reports its health, but can neither start nor stop it.

It finds chroma through the project in which it is started, again for each call: chroma may start, stop and move to
another port while the server runs.

``python server.py PORT`` serves many agents over HTTP, ``python server.py`` a single one over stdio.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from neo_daemons.health import ChromaObserver, DatabaseLifecycleService

os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # chroma is on this machine, so no proxy is needed
server = MCPServer("notes")
chroma = ChromaObserver()


@server.tool()
async def remember(text: str) -> str:
    """Keep a note."""
    key = uuid.uuid4().hex
    # This example does not search notes by meaning, which would need a model, so any vector will do.
    await with_notes(lambda notes: notes.add(ids=[key], documents=[text], embeddings=[[1.0]]))
    return key


@server.tool()
async def recall() -> list[str]:
    """Return all notes."""
    found: list[str] = await with_notes(lambda notes: notes.get(include=["documents"])["documents"])
    return found


@server.tool()
async def healthcheck() -> dict[str, Any]:
    """Check the health of chroma."""
    return (await chroma.acheck()).as_dict()


@server.tool()
def start_database() -> dict[str, Any]:
    """Report whether chroma is running; if not, with the command that starts it. This tool starts nothing."""
    return DatabaseLifecycleService(chroma).start_database()


async def with_notes(use: Callable[[Any], Any]) -> Any:
    """Call `use` with the collection of the current chroma, and return its result."""
    try:
        seen = await chroma.aensure_healthy()
        return await asyncio.to_thread(_with_notes_at, str(seen.url), use)
    except Exception as error:
        # chroma is not healthy, or went away after the check. For any other exception type, the SDK may hide the
        # message from its client.
        raise ToolError(str(error)) from error


def _with_notes_at(url: str, use: Callable[[Any], Any]) -> Any:
    import chromadb  # takes seconds, which should not delay the start of the server
    from chromadb.config import Settings

    class Stated(Settings):
        """Settings from the arguments only: CHROMA_* variables and .env files are for another chroma."""

        @classmethod
        def settings_customise_sources(cls, *_: Any, init_settings: Any, **others: Any) -> Any:
            return (init_settings,)

    settings = Stated(anonymized_telemetry=False, chroma_server_ssl_verify=False)
    client: Any = chromadb.HttpClient(host=url, settings=settings)
    with client:  # closed each time: an idle connection would delay chroma's exit
        return use(client.get_or_create_collection("notes", embedding_function=None))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
