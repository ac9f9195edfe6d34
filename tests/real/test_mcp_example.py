"""The example of an MCP server, in one session over a life of chroma and of its orchestrator."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from tests.harness import PATIENCE_S, Project, until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real"), pytest.mark.timeout(540)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "mcp_server"


class Session:
    """What an MCP client gets from the server."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def call(self, tool: str, **arguments: Any) -> Any:
        """What a tool answers."""
        result = self._call(tool, arguments)
        assert not result.is_error, result
        content = result.structured_content
        return content["result"] if content.keys() == {"result"} else content

    def error(self, tool: str, **arguments: Any) -> str:
        """Why a tool does not."""
        result = self._call(tool, arguments)
        assert result.is_error, result
        (content,) = result.content
        return str(content.text)

    def advice(self) -> str:
        """What `start_database` answers while chroma cannot be used."""
        answer = self.call("start_database")
        assert (answer["status"], answer["pid"]) == ("offline", None)
        return str(answer["detail"])

    def health(self, status: str, pid: int | None) -> dict[str, Any]:
        """What the healthcheck sees, once it sees that status of that process."""

        def look() -> dict[str, Any] | None:
            seen: dict[str, Any] = self.call("healthcheck")
            return seen if (seen["status"], seen["pid"]) == (status, pid) else None

        return until(look, f"chroma to be seen {status} as pid {pid}")


@pytest.fixture
def session(project: Project) -> Iterator[Session]:
    """A session with the example's server, in the project that the example is."""
    from mcp import Client, StdioServerParameters, stdio_client

    shutil.copytree(EXAMPLE, project.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    server = StdioServerParameters(command=sys.executable, args=["server.py"], cwd=project.root)
    log = project.root / "server.err"
    with log.open("w") as errors, start_blocking_portal() as portal:
        client = Client(stdio_client(server, errlog=errors), read_timeout_seconds=PATIENCE_S)
        with portal.wrap_async_context_manager(client):
            yield Session(lambda tool, arguments: portal.call(client.call_tool, tool, arguments))
    assert "Traceback" not in log.read_text()


def test_one_session_sees_chroma_and_its_orchestrator_come_and_go(project: Project, session: Session) -> None:
    start = f"Start it: cd {shlex.quote(str(project.root))} && {shlex.quote(sys.executable)} -m neo_daemons up"

    # Nobody has started anything, and the server does not either.
    seen = session.call("healthcheck")
    assert (seen["status"], seen["ready"], seen["managed"], seen["pid"]) == ("unhealthy", False, False, None)
    assert "the daemon was not started" in seen["reasons"][0]
    assert session.advice().endswith(start)
    for error in (session.error("recall"), session.error("remember", text="lost")):
        assert "chroma is unhealthy" in error
        assert error.endswith(start)
        assert "Traceback" not in error
    assert project.left() == []

    # The orchestrator is started.
    project.serve()
    chroma = project.reaches("chroma", "ready")
    seen = session.health("healthy", chroma.pid)
    assert (seen["managed"], seen["url"]) == (True, chroma.url)
    session.call("remember", text="before the kill")
    assert session.call("recall") == ["before the kill"]
    assert session.call("start_database")["status"] == "already_running"
    assert project.daemon("chroma").pid == chroma.pid

    # chroma is killed: the orchestrator brings it back.
    kill(chroma.pid)
    back = project.back("chroma", chroma.pid)
    seen = session.health("healthy", back.pid)
    assert (seen["managed"], seen["restarts"]) == (True, 1), project.events("chroma")
    session.call("remember", text="after the kill")
    assert session.call("recall") == ["before the kill", "after the kill"]

    # The orchestrator is killed: chroma can still be used, and nobody would bring it back.
    project.kill_supervisor()
    assert session.health("healthy", back.pid)["managed"] is False
    assert len(session.call("recall")) == 2
    for pid in project.left():  # chroma, and the server that shares its notes over HTTP
        kill(pid)
    seen = session.health("unhealthy", None)
    assert (seen["ready"], seen["managed"]) == (False, False)
    assert project.left() == []
    assert session.advice().endswith(start)
    assert session.error("recall").endswith(start)
    assert project.left() == []

    # The orchestrator is started again, and chroma's port is somebody else's by now.
    with socket.create_server(("127.0.0.1", back.ports["main"])):
        project.serve()
        moved = project.reaches("chroma", "ready")
        assert moved.ports != back.ports
        seen = session.health("healthy", moved.pid)
        assert (seen["managed"], seen["url"]) == (True, moved.url)
        assert session.call("recall") == ["before the kill", "after the kill"]


def test_agents_share_the_supervised_server(project: Project) -> None:
    from mcp import Client, StdioServerParameters

    shutil.copytree(EXAMPLE, project.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    project.serve()
    project.reaches("chroma", "ready")
    project.reaches("notes", "ready")
    arguments = ["-m", "neo_daemons", "mcp", "connect", "notes"]
    shim = StdioServerParameters(command=sys.executable, args=arguments, cwd=project.root, env=project.env)

    async def use() -> None:
        async with Client(shim) as one, Client(shim) as other:
            await one.call_tool("remember", {"text": "shared"})
            recalled = await other.call_tool("recall", {})
            assert recalled.structured_content == {"result": ["shared"]}

    asyncio.run(use())


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
