"""``status --watch`` in a real terminal, drawn by an emulator."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..harness import Project, toy
from ..terminal import COLOUR, Terminal

pytestmark = pytest.mark.long
Opens = Callable[..., Terminal]


@pytest.fixture
def opens(project: Project) -> Iterator[Opens]:
    """Opens `status --watch` in terminals that are closed with the test."""
    opened: list[Terminal] = []

    def open_one(*arguments: str, **size: Any) -> Terminal:
        command = ["-m", "neo_daemons", "status", "--watch", *arguments]
        opened.append(Terminal(command, project.root, project.env, **size))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


def test_in_80_columns_and_after_a_change_of_size_nothing_is_lost(project: Project, opens: Opens) -> None:
    project.configure(api=toy(), quiet=toy("quiet"))
    project.serve()
    pid = project.reaches("api", "ready").pid
    terminal = opens()
    headings = ("NAME", "STATE", "READY", "PID", "PORT", "UPTIME", "RST", "CPU", "MEMORY")
    terminal.shows(*headings, "api", "quiet", "● ready", str(pid), " MB", "? keys")
    assert "DETAIL" not in terminal.text
    terminal.resize(140, 30)
    terminal.shows(*headings, "DETAIL", "ready after", "? keys")
    terminal.resize(80, 24)
    terminal.until(lambda: "DETAIL" not in terminal.text and "? keys" in terminal.text, "the narrow table")
    terminal.shows(*headings)
    terminal.type("q")
    assert terminal.ends() == 0
    assert terminal.is_restored()
    assert project.daemon("api").pid == pid


def test_without_colours_the_selection_and_the_states_can_be_told(project: Project, opens: Opens) -> None:
    project.configure(api=toy(), down=toy(enabled=False))
    project.serve()
    project.reaches("api", "ready")
    project.env["NO_COLOR"] = "1"
    terminal = opens()
    terminal.shows("● ready", "○ stopped")

    def is_selected(name: str) -> bool:
        row = next(number for number, line in enumerate(terminal.screen.display) if line.startswith(f"{name} "))
        return bool(terminal.screen.buffer[row][1].reverse)

    terminal.until(lambda: is_selected("api") and not is_selected("down"), "api to be selected")
    terminal.type("\x1b[B")
    terminal.until(lambda: is_selected("down") and not is_selected("api"), "down to be selected")
    assert not COLOUR.search(terminal.written)


def test_a_supervisor_is_waited_for_and_after_its_death_its_successor(project: Project, opens: Opens) -> None:
    project.configure(api=toy())
    terminal = opens()
    terminal.shows("! no supervisor is running", "neo-daemons up")
    first = project.serve().pid
    pid = project.reaches("api", "ready").pid
    terminal.shows(f"pid {first}", str(pid), "● ready")
    project.kill_supervisor()
    terminal.shows("! no supervisor is running", "Waiting for a supervisor", str(pid))
    terminal.type("x")
    terminal.shows("there is no supervisor to give orders to")
    second = project.serve().pid
    terminal.shows(f"pid {second}", str(pid))
    terminal.until(lambda: "Waiting" not in terminal.text, "the end of the message")


@pytest.mark.parametrize(("ending", "code"), [("\x03", 130), (signal.SIGTERM, 143)])
def test_however_it_ends_the_terminal_is_as_before(
    project: Project, opens: Opens, ending: str | signal.Signals, code: int
) -> None:
    terminal = opens()
    terminal.shows("no supervisor is running")
    if isinstance(ending, str):
        terminal.type(ending)
    else:
        terminal.process.send_signal(ending)
    assert terminal.ends() == code
    assert terminal.is_restored()


def test_without_textual_it_says_once_how_to_get_the_view_and_shows_the_table(project: Project, opens: Opens) -> None:
    (project.root / "elsewhere").mkdir()
    (project.root / "elsewhere" / "sitecustomize.py").write_text("import sys\nsys.modules['textual'] = None\n")
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    project.env["PYTHONPATH"] = str(project.root / "elsewhere")
    terminal = opens(width=100)
    terminal.shows("api", "ready", "URL")
    terminal.until(lambda: len(set(re.findall(rb"[0-9.]+s ", terminal.written))) > 1, "the next table")
    assert terminal.written.count(b'pip install "neo-daemons[tui]"') == 1
    terminal.type("\x03")
    assert terminal.ends() == 130
