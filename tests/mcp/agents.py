"""Agents: the official SDK's clients, each with a process of ours at its other end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

from tests.harness import PATIENCE_S, PROGRAMS, Project

CURRENT, BEFORE = "2026-07-28", "legacy"
"""Revisions of the protocol, as modes of the SDK's client; the latest with a handshake is 2025-11-25."""


def notes(*options: str, **settings: Any) -> dict[str, Any]:
    """The table of an MCP server over streamable HTTP."""
    return {
        "command": [sys.executable, str(PROGRAMS / "mcp_notes.py"), "${port}", *options],
        "port": "auto",
        "url": "http://${host}:${port}/mcp",
        "ready": {"type": "tcp"},
        "stop": {"grace_s": 2.0},
        **settings,
    }


@contextlib.asynccontextmanager
async def agent(project: Project, *arguments: str, mode: str = BEFORE, **options: Any) -> AsyncIterator[Any]:
    """A client of ``neo-daemons mcp ARGUMENTS`` in the project."""
    from mcp import Client, StdioServerParameters, stdio_client

    server = StdioServerParameters(
        command=sys.executable, args=["-m", "neo_daemons", "mcp", *arguments], cwd=project.root, env=project.env
    )
    with (project.root / "agent.err").open("a") as errors:
        client = Client(stdio_client(server, errlog=errors), mode=mode, read_timeout_seconds=PATIENCE_S, **options)
        async with client as connected:
            yield connected


async def answer(client: Any, tool: str, **arguments: Any) -> Any:
    """The structured answer of a tool."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    content = result.structured_content
    return content["result"] if content.keys() == {"result"} else content


async def refusal(client: Any, tool: str, **arguments: Any) -> str:
    """Why a tool does not answer."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    return str(result.content[0].text)
