"""The MCP server of a project, asked by the official SDK's client."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.mcp import log_window
from neo_daemons.mcp.answers import MAX_BYTES
from tests.harness import Project, toy

from .agents import BEFORE, CURRENT, agent, answer, refusal

pytestmark = pytest.mark.long

READING = ["status", "why", "logs", "events", "health", "doctor"]
CONTROL = ["start", "stop", "restart", "hold", "release", "reload"]


@pytest.mark.parametrize(("mode", "version"), [(CURRENT, "2026-07-28"), (BEFORE, "2025-11-25")])
def test_both_revisions_of_the_protocol_are_spoken(project: Project, mode: str, version: str) -> None:
    async def look() -> tuple[str, list[Any]]:
        async with agent(project, mode=mode) as client:
            return client.session.protocol_version, (await client.list_tools()).tools

    spoken, tools = asyncio.run(look())

    assert spoken == version
    assert [tool.name for tool in tools] == READING
    assert all(tool.annotations.read_only_hint and not tool.annotations.destructive_hint for tool in tools)
    assert all(tool.output_schema["type"] == tool.input_schema["type"] == "object" for tool in tools)


def test_nothing_can_be_controlled_unless_that_is_allowed(project: Project) -> None:
    project.configure(web=toy("quiet"))
    project.serve()
    pid = project.reaches("web", "ready").pid

    async def try_all() -> list[str]:
        async with agent(project) as client:
            return [await refusal(client, tool, name="web") for tool in CONTROL]

    assert all("--allow-control" in text for text in asyncio.run(try_all()))
    assert project.daemon("web").pid == pid


def test_orders_are_carried_out_and_a_reload_is_dry_unless_asked_otherwise(project: Project) -> None:
    project.configure(web=toy("quiet"))
    project.serve()
    first = project.reaches("web", "ready").pid

    async def control() -> None:
        async with agent(project, "--allow-control") as client:
            tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
            assert [*tools] == READING + CONTROL
            assert [name for name in tools if tools[name].destructive_hint] == ["stop", "restart", "reload"]
            assert (await answer(client, "restart", name="web"))["daemon"]["pid"] not in (None, first)
            assert (await answer(client, "stop", name="web"))["daemon"]["state"] == "stopped"
            assert (await answer(client, "hold", name="web"))["daemon"]["held"] is True
            assert (await answer(client, "release", name="web"))["daemon"]["ready"] is True
            project.configure(web=toy("quiet"), other=toy("quiet"))
            dry = await answer(client, "reload")
            assert (dry["done"], [one["action"] for one in dry["changes"]]) == (False, ["keep", "start"])
            assert [one.name for one in project.client.status().daemons] == ["web"]
            assert (await answer(client, "reload", dry_run=False))["done"] is True
            assert "other" in [one.name for one in project.client.status().daemons]

    asyncio.run(control())


def test_the_supervisor_may_come_and_go(project: Project) -> None:
    project.configure(web=toy("quiet", "write=hello"))

    async def live_through() -> None:
        async with agent(project) as client:
            seen = await answer(client, "status")
            assert seen["running"] is False
            assert "start one: neo-daemons up" in seen["message"]
            assert "start one: neo-daemons up" in await refusal(client, "why", name="web")
            assert (await answer(client, "health"))["status"] == "unhealthy"
            assert (await answer(client, "doctor"))["findings"]
            await asyncio.to_thread(project.serve)
            await asyncio.to_thread(project.reaches, "web", "ready")
            seen = await answer(client, "status")
            assert [(one["name"], one["state"]) for one in seen["daemons"]] == [("web", "ready")]
            assert (await answer(client, "why", name="web"))["daemon"]["state"] == "ready"
            assert (await answer(client, "health"))["status"] == "healthy"
            await asyncio.to_thread(project.stop)
            assert (await answer(client, "status"))["running"] is False
            assert "hello" in (await answer(client, "logs", name="web"))["lines"]
            events = (await answer(client, "events"))["events"]
            assert events[-1]["event"] == "supervisor-stopped"
            assert (await answer(client, "events", after=events[-2]["at"], name="web"))["events"] == []

    asyncio.run(live_through())


def test_answers_are_bounded_and_say_what_was_cut(project: Project) -> None:
    project.configure(
        **{f"daemon-{number}": toy("quiet", enabled=False, exports={"X": "y" * 900}) for number in range(60)}
    )
    project.serve()
    (project.state.logs / "daemon-0.log").write_text("".join(f"line {n} {'é' * 200}\n" for n in range(2000)))

    async def look() -> list[Any]:
        async with agent(project) as client:
            results = [
                await client.call_tool("status", {}),
                await client.call_tool("logs", {"name": "daemon-0", "lines": 1000}),
                await client.call_tool("doctor", {}),
            ]
            names = await answer(client, "status", names=["daemon-59"])
            assert [one["name"] for one in names["daemons"]] == ["daemon-59"]
            older = results[1].structured_content["older"]
            more = await answer(client, "logs", name="daemon-0", cursor=older)
            assert more["lines"][-1] != results[1].structured_content["lines"][-1]
            return results

    status, logs, doctor = asyncio.run(look())

    for result in (status, logs, doctor):
        assert len(json.dumps(result.structured_content, ensure_ascii=False).encode()) <= MAX_BYTES * 1.1
        assert json.loads(result.content[0].text) == result.structured_content
    assert "of 60 daemons left out: pass their names" in status.structured_content["cut"]
    assert logs.structured_content["lines"][-1].startswith("line 1999 ")


def test_arguments_name_daemons_of_this_project_and_nothing_else(project: Project, tmp_path: Path) -> None:
    project.configure(web=toy("quiet"))

    async def try_all() -> None:
        async with agent(project) as client:
            for name in ("../../etc/passwd", "/etc/passwd", "a/b", "..", ""):
                for tool in ("why", "logs"):
                    assert "invalid arguments" in await refusal(client, tool, name=name)
            assert "unknown daemon 'db'" in await refusal(client, "health", names=["db"])
            assert "unknown field" in await refusal(client, "logs", name="web", path="/etc/passwd")
            assert "unknown cursor" in await refusal(client, "logs", name="web", cursor="after-1")

    (project.state.path / "logs").mkdir(parents=True)
    (project.state.path / "logs" / "web.log").write_text("x\n")
    asyncio.run(try_all())


def test_without_the_sdk_one_line_says_what_to_install(project: Project) -> None:
    (project.root / "block.py").write_text(
        "import sys, importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'mcp' else find(name, *rest)\n"
        "from neo_daemons.cli import main\nsys.exit(main(['mcp']))\n"
    )
    import subprocess

    ended = subprocess.run(
        [sys.executable, "block.py"], cwd=project.root, env=project.env, capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "pip install" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def read(path: Path, count: int, contains: str | None = None, cursor: str | None = None) -> log_window.Window:
    return log_window.read(path, count, contains=contains, cursor=cursor, max_bytes=10_000)


def test_cursors_lead_through_a_whole_log_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    lines = [f"line {number}" for number in range(25)]
    path.write_text("".join(f"{line}\n" for line in lines))

    window = read(path, 10)
    found, newer = window.lines, window.newer
    while window.older is not None:
        window = read(path, 10, cursor=window.older)
        found = window.lines + found
    assert found == lines

    assert read(path, 10, cursor=newer).lines == []
    with path.open("a") as file:
        file.write("one\ntwo\nincompl")
    window = read(path, 1, cursor=newer)
    assert (window.lines, window.remark) == (["one"], "there is more: pass `newer` as the cursor")
    window = read(path, 10, cursor=window.newer)
    assert window.lines == ["two"]
    with path.open("a") as file:
        file.write("ete\n")
    assert read(path, 10, cursor=window.newer).lines == ["incomplete"]


def test_a_filter_finds_lines_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("an Error\nfine\nERROR two\nfine\n")

    window = read(path, 1, contains="error")
    assert window.lines == ["ERROR two"]
    window = read(path, 1, contains="error", cursor=window.older)
    assert window.lines == ["an Error"]


def test_a_cursor_into_a_rotated_log_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    newer = read(path, 10).newer
    path.write_text("".join(f"other {number}\n" for number in range(200)))

    window = read(path, 2, cursor=newer)

    assert window.lines == ["other 198", "other 199"]
    assert "rotated" in str(window.remark)
