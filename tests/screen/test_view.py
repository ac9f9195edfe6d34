"""The view, driven by its keys, on a real supervisor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import DataTable, Log, Static

from neo_daemons.cli.screen.app import Watch
from neo_daemons.cli.screen.dialogs import Help, Question
from neo_daemons.control.client import Client

from ..harness import PATIENCE_S, Project, toy

Seen = Callable[[Callable[[], object], str], object]


class View:
    """A view, its keys, and what it shows."""

    def __init__(self, app: Watch, pilot: Pilot[int]) -> None:
        self.app = app
        self._pilot = pilot

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def until(self, look: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not look():
            assert time.monotonic() < deadline, f"never came: {what}"
            await self._pilot.pause(0.02)

    def text(self, widget: str) -> str:
        return str(self.app.query_one(widget, Static).content)

    def lines(self, widget: str) -> list[str]:
        return list(self.app.query_one(widget, Log).lines)

    def rows(self) -> list[list[str]]:
        table = self.app.query_one(DataTable)
        return [[str(cell) for cell in table.get_row_at(row)] for row in range(table.row_count)]


@contextlib.asynccontextmanager
async def shown(state_dir: Path, width: int = 80, height: int = 24) -> AsyncIterator[View]:
    app = Watch(Client(state_dir))
    async with app.run_test(size=(width, height)) as pilot:
        yield View(app, pilot)


@pytest.mark.long
@pytest.mark.asyncio
async def test_the_log_of_the_selected_daemon_follows_and_shows_no_control_characters(project: Project) -> None:
    more = project.root / "more"
    hostile = r"\033]0;title\007\033[2J[red]not red[/red] [bold]\001 \xff 漢字🙂 " + "x" * 5000
    script = project.root / "loud.sh"
    waiting = f"while [ ! -e {more} ]; do sleep 0.05; done"
    script.write_text(f"printf '{hostile}\\nnext\\n'\n{waiting}\necho more\nexec sleep 600\n")
    project.configure(loud={"command": ["sh", str(script)]}, other=toy("quiet"))
    project.serve()
    project.reaches("loud", "ready")
    async with shown(project.state.path) as view:
        await view.until(lambda: "next" in view.lines("#log"), "the log")
        line = view.lines("#log")[0]
        assert "[red]not red[/red] [bold]" in line
        assert "漢字🙂" in line
        assert line.endswith("x…")
        assert len(line) < 1100
        assert line.isprintable()
        more.touch()
        await view.until(lambda: view.lines("#log")[-1] == "more", "the next line")
        await view.press("down")
        await view.until(lambda: any("quiet and ready" in line for line in view.lines("#log")), "the other log")
        assert "more" not in view.lines("#log")


@pytest.mark.long
@pytest.mark.asyncio
async def test_nothing_ends_a_process_without_a_yes(project: Project) -> None:
    project.configure(base=toy("quiet"), api=toy("quiet", requires=["base"]))
    project.serve()
    pid = project.reaches("base", "ready").pid
    project.reaches("api", "ready")
    async with shown(project.state.path) as view:
        await view.until(lambda: len(view.rows()) == 2, "the table")
        for key, no in (("r", "n"), ("x", "escape"), ("x", "q")):
            await view.press(key)
            await view.until(lambda: isinstance(view.app.screen, Question), "the question")
            assert str(pid) in str(view.app.screen.query_one(Static).content)
            assert "required by api" in str(view.app.screen.query_one(Static).content)
            await view.press("enter", no)
            await view.until(lambda: not isinstance(view.app.screen, Question), "the table")
        assert project.daemon("base").pid == pid
        await view.press("r", "y")
        await view.until(lambda: project.daemon("base").pid not in (pid, None), "the restart")
        await view.until(lambda: str(project.daemon("base").pid) in view.rows()[0], "the new pid in the table")


@pytest.mark.long
@pytest.mark.asyncio
async def test_keys_stop_start_hold_and_release(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve()
    project.reaches("api", "ready")
    async with shown(project.state.path) as view:
        await view.until(lambda: view.rows() and view.rows()[0][1] == "● ready", "the table")
        await view.press("h")
        await view.until(lambda: view.rows()[0][1].startswith("● ready, on"), "the hold")
        await view.press("h")
        await view.until(lambda: view.rows()[0][1] == "● ready", "the release")
        await view.press("x", "y")
        await view.until(lambda: view.rows()[0][1] == "○ stopped", "the stop")
        await view.press("x")  # there is nothing to end, so there is no question
        assert not isinstance(view.app.screen, Question)
        await view.press("s")
        await view.until(lambda: view.rows()[0][1] == "● ready", "the start")


@pytest.mark.long
@pytest.mark.asyncio
async def test_why_and_events_of_the_selected_daemon_are_shown_and_kept_up_to_date(project: Project) -> None:
    project.configure(api=toy("quiet"), bad={"command": ["sh", "-c", "echo no such thing; exit 3"]})
    project.serve()
    project.reaches("api", "ready")
    async with shown(project.state.path) as view:
        await view.press("w")
        await view.until(lambda: "api: ready since" in view.text("#explanation"), "why")
        project.client.order("api", "stop")
        await view.until(lambda: "api: stopped since" in view.text("#explanation"), "why, anew")
        await view.press("e")
        await view.until(lambda: any("api  stopped" in line for line in view.lines("#events")), "the event")
        assert not any("bad" in line for line in view.lines("#events"))
        await view.press("down")
        await view.until(lambda: any("exit code 3" in line for line in view.lines("#events")), "its events")
        await view.press("w")
        await view.until(lambda: "no such thing" in view.text("#explanation"), "why bad")


@pytest.mark.long
@pytest.mark.asyncio
async def test_the_filter_leaves_what_matches_and_takes_keys_that_are_orders_elsewhere(project: Project) -> None:
    project.configure(xray=toy("quiet"), api=toy("quiet"), web=toy("quiet", enabled=False))
    project.serve()
    pid = project.reaches("xray", "ready").pid
    async with shown(project.state.path) as view:
        await view.until(lambda: len(view.rows()) == 3, "the table")
        await view.press("down", "down")
        for key in ("slash", "s", "r", "x"):  # as one packet of a slow line: the filter has no focus yet
            assert view.app._driver is not None
            view.app._driver.send_message(Key(key, "/" if key == "slash" else key))
        await view.until(lambda: "filter: " in view.text("#head"), "the filter")
        await view.until(lambda: sorted(view.app._filter) == ["r", "s", "x"], "the keys")
        assert not isinstance(view.app.screen, Question)
        await view.press("escape")
        await view.press("slash", "s", "t", "o", "p")  # by state; `s` alone would start one
        await view.until(lambda: [row[0] for row in view.rows()] == ["web"], "what is stopped")
        assert view.app.selected == "web"
        await view.press("z", "enter", "x")  # nothing matches
        await view.until(lambda: view.text("#note") == "no daemon is selected", "what is said")
        await view.press("question_mark")
        await view.until(lambda: isinstance(view.app.screen, Help), "the keys")
        await view.press("escape", "escape")
        await view.until(lambda: len(view.rows()) == 3, "the whole table")
    assert [event for event, _ in project.events("web")] == []
    assert project.daemon("xray").pid == pid
