"""An MCP server over standard input and output that keeps state for its one client. usage: python mcp_alone.py"""

import os

from mcp.server.mcpserver import MCPServer

count = 0


def whoami() -> int:
    """Return the pid of the server."""
    return os.getpid()


def echo(text: str) -> str:
    """Return the text."""
    return text


def counted() -> int:
    """Return how often this was asked."""
    global count
    count += 1
    return count


def die(code: int) -> None:
    """End without an answer."""
    print("about to die", file=__import__("sys").stderr, flush=True)
    os._exit(code)


server = MCPServer("alone")
for tool in (whoami, echo, counted, die):
    server.add_tool(tool)
server.run("stdio")
