"""The shim between agents and one supervised MCP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.status import DaemonStatus
from neo_daemons.supervision.presence import Presence, presence
from tests.harness import Project, is_alive, kill, until

from .agents import BEFORE, CURRENT, agent, answer, notes

AGENTS = 20


@pytest.fixture
def served(project: Project) -> Project:
    """A project with a running MCP server."""
    project.configure(notes=notes())
    project.serve()
    project.reaches("notes", "ready")
    return project


def shim(project: Project, **streams: Any) -> subprocess.Popen[bytes]:
    """A shim whose agent is the test."""
    command = [sys.executable, "-m", "neo_daemons", "mcp", "connect", "notes"]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **streams}
    return subprocess.Popen(command, cwd=project.root, env=project.env, bufsize=0, **streams)


def request(number: int | str, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


INFO = {"name": "test", "version": "1"}
INITIALIZE = request("first", "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=INFO)
INITIALIZED = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'


def begin(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Initialize, and return the answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(INITIALIZE + INITIALIZED)
    answered: dict[str, Any] = json.loads(process.stdout.readline())
    return answered


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (CURRENT, []),
        (BEFORE, ["stateless"]),
        ("auto", []),
        pytest.param(CURRENT, ["stateless"], marks=pytest.mark.matrix),
        pytest.param(BEFORE, [], marks=pytest.mark.matrix),
        pytest.param("auto", ["stateless"], marks=pytest.mark.matrix),
    ],
)
def test_every_revision_passes(project: Project, mode: str, options: list[str]) -> None:
    project.configure(notes=notes(*options))
    project.serve()
    pid = project.reaches("notes", "ready").pid

    async def use() -> None:
        async with agent(project, "connect", "notes", mode=mode) as client:
            assert await answer(client, "whoami") == pid
            assert await answer(client, "echo", text="grüße\n\u2028") == "grüße\n\u2028"

    asyncio.run(use())


@pytest.mark.long
def test_twenty_agents_share_one_server_and_killed_ones_disturb_nobody(served: Project) -> None:
    pid = served.daemon("notes").pid
    chance = random.Random(7)
    with contextlib.ExitStack() as stack:
        shims = [stack.enter_context(shim(served)) for _ in range(AGENTS - 1)]
        for one in shims:
            stack.callback(one.kill)
        for one in shims[::2]:  # these are killed at work, the others maybe while they begin
            begin(one)
        kills = dict(zip(chance.sample(range(2 * AGENTS), AGENTS - 1), shims, strict=True))

        async def use() -> None:
            async with agent(served, "connect", "notes") as client:
                for number in range(2 * AGENTS):
                    for one in shims:
                        assert one.stdin is not None
                        if one.poll() is None:
                            one.stdin.write(request(number, "ping"))
                    if number in kills:
                        kills[number].kill()
                        kills[number].wait()
                    assert await answer(client, "echo", text=str(number)) == str(number)
                assert await answer(client, "whoami") == pid

        asyncio.run(use())
        assert all(one.poll() is not None for one in shims)
    assert served.daemon("notes").pid == pid


@pytest.mark.long
@pytest.mark.parametrize("mode", [CURRENT, BEFORE])
def test_a_killed_server_costs_each_unanswered_request_one_error(served: Project, mode: str) -> None:
    from mcp import MCPError

    async def use() -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(agent(served, "connect", "notes", mode=mode)) for _ in range(3)]
            first = await answer(clients[0], "whoami")
            waiting = [asyncio.ensure_future(client.call_tool("wait", {})) for client in clients for _ in range(2)]
            log = served.state.daemon_log("notes")
            await asyncio.to_thread(until, lambda: log.read_text().count("waiting") == len(waiting), "all calls")
            kill(first)
            errors = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in errors] == [MCPError] * len(waiting)
            assert all("ended the connection before it answered" in str(error) for error in errors)
            again = [await answer(client, "whoami") for client in clients]
            assert len(set(again)) == 1
            assert again[0] != first

    asyncio.run(use())


@pytest.mark.long
def test_what_the_server_asks_and_announces_reaches_the_agent_also_after_its_death(served: Project) -> None:
    from mcp import types

    async def use() -> None:
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def reply(*_: Any) -> Any:
            return types.ElicitResult(action="accept", content={"word": "plum"})

        options: dict[str, Any] = {"elicitation_callback": reply, "message_handler": heard.put}
        async with agent(served, "connect", "notes", **options) as client:
            pid = await answer(client, "whoami")
            for _ in range(2):
                assert await answer(client, "question") == "plum"
                for _ in range(
                    50
                ):  # the stream for it may not be open yet, and the SDK's server drops what it cannot send
                    await answer(client, "announce")
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(heard.get(), 0.2)
                        break
                else:
                    pytest.fail("never heard")
                kill(served.daemon("notes").pid)
                await asyncio.to_thread(served.back, "notes", pid)
                pid = await answer(client, "whoami")

    asyncio.run(use())


@pytest.mark.long
def test_the_supervisor_may_be_killed_and_come_back(served: Project) -> None:
    async def use() -> None:
        async with agent(served, "connect", "notes") as client:
            pid = await answer(client, "whoami")
            served.kill_supervisor()
            assert await answer(client, "whoami") == pid
            await asyncio.to_thread(served.serve)
            assert await answer(client, "whoami") == pid
            kill(pid)
            await asyncio.to_thread(served.back, "notes", pid)
            assert await answer(client, "whoami") != pid

    asyncio.run(use())


@pytest.mark.long
def test_an_agent_that_never_reads_holds_up_nobody(served: Project) -> None:
    with shim(served) as deaf:
        assert deaf.stdin is not None
        assert begin(deaf)["id"] == "first"
        params = {"name": "flood", "arguments": {"count": 3000}, "_meta": {"progressToken": "p"}}
        deaf.stdin.write(request(1, "tools/call", **params))

        async def use() -> None:
            async with agent(served, "connect", "notes") as client:
                for number in range(20):
                    assert await answer(client, "echo", text=str(number)) == str(number)

        asyncio.run(use())
        rss_pages = int(Path(f"/proc/{deaf.pid}/statm").read_text().split()[1])
        assert rss_pages * os.sysconf("SC_PAGE_SIZE") < 150_000_000
        deaf.kill()


def test_the_shim_ends_when_its_agent_closes_the_input(served: Project) -> None:
    with shim(served) as one:
        assert begin(one)["result"]["serverInfo"]["name"] == "notes"
        assert one.stdin is not None
        one.stdin.close()
        assert one.wait(30) == 0


def test_ids_are_kept_and_bad_lines_are_answered(served: Project) -> None:
    with shim(served) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        begin(one)
        for number in ("1", 1, 10**15):
            one.stdin.write(request(number, "tools/call", name="echo", arguments={"text": "x"}))
            assert json.loads(one.stdout.readline())["id"] == number
        one.stdin.write(b"{nonsense\n")
        assert json.loads(one.stdout.readline())["error"]["code"] == -32700
        one.stdin.write(request(2, "ping"))
        assert json.loads(one.stdout.readline()) == {"jsonrpc": "2.0", "id": 2, "result": {}}
        one.stdin.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"command": ["sleep", "60"]}, "has no URL"),
        ({**notes(), "command": ["no-such-program-here"]}, "no-such-program-here"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_clear_error(project: Project, table: dict[str, Any], said: str) -> None:
    project.configure(notes=table)
    project.serve()
    with shim(project) as one:
        error = begin(one)["error"]["message"]
        assert said in error
        assert one.stdin is not None
        one.stdin.close()
        assert one.wait(30) == 0


def held_by_one(project: Project) -> DaemonStatus | None:
    daemon = project.daemon("notes")
    return daemon if len(daemon.holders) == 1 else None


@pytest.mark.long
def test_the_server_is_started_for_its_first_agent_and_stopped_after_its_last(project: Project) -> None:
    project.configure(notes=notes(start="on-demand", idle_stop_s=0.1))
    project.serve()
    assert project.daemon("notes").pid is None

    async def use() -> None:
        async with agent(project, "connect", "notes") as one:
            pid = await answer(one, "whoami")
            async with agent(project, "connect", "notes") as other:
                assert await answer(other, "whoami") == pid
            kept = await asyncio.to_thread(until, lambda: held_by_one(project), "the end of the other's lease")
            assert kept.idle_stop_at is None
            assert await answer(one, "whoami") == pid

    asyncio.run(use())
    until(lambda: project.daemon("notes").pid is None, "the end of the idle server")


def test_without_a_supervisor_there_is_one_as_long_as_there_are_agents(project: Project) -> None:
    project.configure(notes=notes(start="on-demand"))

    async def use() -> None:
        async with agent(project, "connect", "notes") as client:
            assert await answer(client, "whoami") == project.daemon("notes").pid

    asyncio.run(use())
    until(lambda: not project.left() and presence(project.state) is not Presence.RUNNING, "the end of everything")


@pytest.mark.long
def test_a_killed_agent_leaves_no_shim(served: Project) -> None:
    script = (
        "import subprocess as s, sys, time\n"
        "one = s.Popen([sys.executable, '-m', 'neo_daemons', 'mcp', 'connect', 'notes'], stdin=-1, stdout=-1)\n"
        "print(one.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=served.root, env=served.env, stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(pid), "the end of the shim")
