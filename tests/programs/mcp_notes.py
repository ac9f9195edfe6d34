"""An MCP server over streamable HTTP for tests. usage: python mcp_notes.py PORT [stateless]"""

import asyncio
import os
import sys

import uvicorn
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel


def whoami() -> int:
    """Return the pid of the server."""
    return os.getpid()


def echo(text: str) -> str:
    """Return the text."""
    return text


async def wait() -> str:
    """Say that it has begun, and never answer."""
    print("waiting", flush=True)
    await asyncio.sleep(600)
    return "late"


async def flood(count: int, context: Context) -> str:
    """Send many large notifications before the answer."""
    for number in range(count):
        await context.report_progress(number, count, "x" * 10_000)
    return "flooded"


class Answer(BaseModel):
    """What an agent is asked for."""

    word: str


async def question(context: Context) -> str:
    """Ask the agent before the answer."""
    answer = await context.elicit("Which word?", Answer)
    return str(answer.data.word) if isinstance(answer, AcceptedElicitation) else answer.action


async def announce(context: Context) -> str:
    """Send a notification that belongs to no request."""
    await context.session.send_tool_list_changed()
    return "announced"


server = MCPServer("notes")
for tool in (whoami, echo, wait, flood, question, announce):
    server.add_tool(tool)
app = server.streamable_http_app(stateless_http="stateless" in sys.argv)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
