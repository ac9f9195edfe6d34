"""What the view shows of the selected daemon: its use of the machine, and its log, `why` or events."""

from __future__ import annotations

import time
from typing import Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import ContentSwitcher, Log, Static

from neo_daemons.status import DaemonStatus, JournalEntry

from .. import display
from ..explain import explain
from . import rows
from .feed import REMEMBERED_LINES, Feed

EXPLAINED_S = 5.0
"""How often `why` is asked while it is shown and nothing happens."""
Pane = Literal["log", "why", "events"]


class Detail(Vertical):
    """The lower part of the view.

    Args:
        feed: what is known.
        history: the latest measurements.
    """

    DEFAULT_CSS = """
    Detail { height: 1fr; }
    #about, #use, #tabs { height: 1; }
    #about { text-style: bold; }
    ContentSwitcher { height: 1fr; }
    #log, #events, #why { background: $background; height: 1fr; scrollbar-size-horizontal: 0; }
    """

    def __init__(self, feed: Feed, history: rows.History) -> None:
        super().__init__()
        self._feed = feed
        self._history = history
        self._pane: Pane = "log"
        self._name: str | None = None
        """The selected daemon."""
        self._shown_events: tuple[str | None, int] = (None, -1)
        self._asked_why: tuple[str | None, int, float] = (None, -1, 0.0)

    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Static(id="use")
        yield Static(id="tabs")
        with ContentSwitcher(initial="log"):
            yield Log(id="log", max_lines=REMEMBERED_LINES)
            with VerticalScroll(id="why"):
                yield Static(id="explanation")
            yield Log(id="events", max_lines=REMEMBERED_LINES)

    def turn_to(self, pane: Pane) -> None:
        """Show the log, `why` or the events."""
        self._pane = pane
        self.query_one(ContentSwitcher).current = pane

    def select(self, name: str | None) -> None:
        """Turn to another daemon."""
        if name != self._name:
            self._name = name
            self.query_one("#log", Log).clear()
            say(self.query_one("#explanation", Static), Text(""))
            self._feed.select(name)

    def draw(self, daemon: DaemonStatus | None, width: int) -> None:
        """Show what is new about the selected daemon, in so many columns."""
        about = rows.about(daemon) if daemon is not None else ""
        say(self.query_one("#about", Static), Text(about, no_wrap=True, overflow="ellipsis"))
        say(self.query_one("#use", Static), self._use(daemon, width))
        say(self.query_one("#tabs", Static), self._tabs())
        self._draw_log()
        if self._pane == "events":
            self._draw_events()
        elif self._pane == "why" and self._name is not None:
            self._draw_why(self._name)

    def _use(self, daemon: DaemonStatus | None, width: int) -> Text:
        if daemon is None:
            return Text("no daemon")
        cpu, memory = f"CPU {rows.cpu(daemon):>6} ", f"  MEMORY {rows.memory(daemon):>7} "
        width = max((width - len(cpu) - len(memory) - 1) // 2, 0)
        lines = self._history.cpu(daemon.name, width), self._history.memory(daemon.name, width)
        return Text.assemble(cpu, (f"{lines[0]:{width}}", "cyan"), memory, (lines[1], "green"), no_wrap=True)

    def _tabs(self) -> Text:
        text = Text(no_wrap=True)
        for pane in ("log", "why", "events"):
            text.append(f" {pane} ", style="reverse" if pane == self._pane else "")
            text.append(" ")
        return text

    def _draw_log(self) -> None:
        tail = self._feed.log
        if tail is None or tail.name != self._name:
            return
        begins, lines = tail.take()
        widget = self.query_one("#log", Log)
        if begins:
            widget.clear()
        if lines:
            widget.write_lines(lines)

    def _draw_events(self) -> None:
        shown = (self._name, self._feed.event_count)
        if shown != self._shown_events:
            self._shown_events = shown
            widget = self.query_one("#events", Log)
            widget.clear()
            widget.write_lines(display.entry(entry) for entry in self._events())

    def _events(self) -> list[JournalEntry]:
        return [entry for entry in self._feed.latest_events() if entry.daemon == self._name is not None]

    def _draw_why(self, name: str) -> None:
        asked, count, at = self._asked_why
        if asked != name or count != self._feed.event_count or time.monotonic() - at > EXPLAINED_S:
            self._asked_why = (name, self._feed.event_count, time.monotonic())
            self._feed.explain(name)
        found, widget = self._feed.explanation, self.query_one("#explanation", Static)
        if self._feed.unexplained is not None:
            say(widget, Text(display.clean(self._feed.unexplained)))
        elif found is not None and found.daemon.name == name:
            say(widget, Text("\n".join(map(display.clean, explain(found)))))


def say(widget: Static, text: Text) -> None:
    """Show a text unless it is there already."""
    if widget.content != text:
        widget.update(text)
