"""The full-screen view: the table of daemons, and of the selected one its use of the machine, log, `why` and events."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import ClassVar, Literal

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import ContentSwitcher, DataTable, Footer, Input, Log, Static

from neo_daemons.control.api import OrderName
from neo_daemons.control.client import Client
from neo_daemons.status import DaemonStatus, JournalEntry

from .. import display
from ..explain import explain
from . import rows
from .dialogs import Help, Question
from .feed import REMEMBERED_LINES, Feed

DRAWN_S = 0.1
"""The shortest time between two drawings."""
EXPLAINED_S = 5.0
"""How often `why` is asked while it is shown and nothing happens."""
PADDING = 2
"""What each column of the table takes beside its text."""
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as of a program that is ended by them."""
Pane = Literal["log", "why", "events"]
KEYS = """\
↑ ↓            select a daemon
tab            to the log, `why` or events, to scroll there; tab again: back
l  w  e        show the log, why it is in its state, its events
r              restart it (asks first)
x              stop it (asks first)
s              start it
h              hold it: it is not restarted after it exits; again: release it
/              show only daemons whose name or state has this text
escape         show all daemons
?              these keys
q              quit; the daemons go on running"""


class Watch(App[int]):
    """The view of one supervisor.

    Args:
        client: how to reach the supervisor.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; background: $background; }
    #head { height: 1; text-style: reverse; }
    #problem { height: auto; max-height: 4; text-style: bold; display: none; }
    #table { height: auto; max-height: 50%; background: $background; overflow-x: hidden; scrollbar-size: 1 1; }
    #table > .datatable--header { text-style: bold; background: $background; color: $foreground; }
    #table > .datatable--cursor { text-style: reverse; background: $background; color: $foreground; }
    #table:blur > .datatable--cursor { text-style: reverse; }
    #detail { height: 1fr; }
    #about, #use, #tabs { height: 1; }
    #about { text-style: bold; }
    ContentSwitcher { height: 1fr; }
    Log, #why { background: $background; height: 1fr; scrollbar-size-horizontal: 0; }
    #filter { height: 1; border: none; padding: 0; display: none; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("r", "order('restart')", "restart"),
        Binding("x", "order('stop')", "stop"),
        Binding("s", "order('start')", "start"),
        Binding("h", "hold", "hold"),
        Binding("l", "show('log')", "log"),
        Binding("w", "show('why')", "why"),
        Binding("e", "show('events')", "events"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("question_mark", "help", "keys", key_display="?"),
        Binding("escape", "all", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False),
    ]

    class Ended(Message):
        """The process was told to end."""

    class News(Message):
        """The feed has something new."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.theme = "ansi-dark"  # the terminal's own colours, on its own background
        self.feed = Feed(client, self._wake)
        self.selected: str | None = None
        self.pane: Pane = "log"
        self._place = client.state_dir.path
        self._history = rows.History()
        self._drawn_seen_at = 0.0
        self._drawn: dict[str, tuple[str, ...]] = {}
        """Daemon → its cells."""
        self._columns: list[rows.Column] = []
        self._filter = ""
        self._awake = False
        self._events_shown: tuple[str | None, int] = (None, -1)
        self._asked_why: tuple[str | None, int, float] = (None, -1, 0.0)

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="problem")
        yield DataTable[Text](id="table", cursor_type="row", cell_padding=PADDING // 2)
        with Vertical(id="detail"):
            yield Static(id="about")
            yield Static(id="use")
            yield Static(id="tabs")
            with ContentSwitcher(initial="log"):
                yield Log(id="log", max_lines=REMEMBERED_LINES)
                with VerticalScroll(id="why"):
                    yield Static(id="explanation")
                yield Log(id="events", max_lines=REMEMBERED_LINES)
        yield Input(id="filter", placeholder="filter by name or state", compact=True)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: a test
                loop.add_signal_handler(signum, self.post_message, self.Ended())
        self.feed.start()
        self._draw()

    def on_unmount(self) -> None:
        self.feed.stop()

    def on_watch_ended(self) -> None:
        """Leave the terminal as it was."""
        self.exit(TERMINATED)

    # What is new

    def _wake(self) -> None:
        """Draw soon. Called in threads of the feed."""
        if not self._awake:
            self._awake = True
            self.post_message(self.News())

    def on_watch_news(self) -> None:
        """Draw what has come until then."""
        self.set_timer(DRAWN_S, self._draw)

    def _draw(self) -> None:
        """Show what is new."""
        self._awake = False
        if not self.is_running:
            return
        with self.batch_update():
            self._draw_head()
            self._draw_table()
            self._draw_selected()
        while self.feed.notices:
            text, is_error = self.feed.notices.popleft()
            self.notify(display.clean(text), severity="error" if is_error else "information", markup=False)

    @property
    def daemons(self) -> tuple[DaemonStatus, ...]:
        """All daemons, as last seen."""
        return self.feed.status.daemons if self.feed.status is not None else ()

    def _daemon(self) -> DaemonStatus | None:
        return next((daemon for daemon in self.daemons if daemon.name == self.selected), None)

    def _draw_head(self) -> None:
        status, problem = self.feed.status, self.feed.problem
        parts = [f" {self._place.absolute().parent}"]
        if status is not None:
            parts += [f"pid {status.supervisor.pid}", rows.summary(status.daemons)]
        if self._filter:
            parts.append(f"filter: {self._filter}")
        self._say(
            "#head", Text(display.clean("  ".join(parts)).ljust(self.size.width), no_wrap=True, overflow="ellipsis")
        )
        warning = status.supervisor.warning if status is not None else None
        if problem is not None:
            seen = ""
            if status is not None:
                at = time.strftime("%H:%M:%S", time.localtime(self.feed.seen_at))
                seen = f" What is shown is of {at}."
            problem = f"! {problem}. Waiting for a supervisor.{seen}"
        elif warning is not None:
            problem = f"! {warning}"
        banner = self.query_one("#problem", Static)
        banner.display = problem is not None
        if problem is not None:
            self._say("#problem", Text(display.clean(problem), style="red"))

    def _say(self, where: str, text: Text) -> None:
        """Show a text unless it is there already."""
        widget = self.query_one(where, Static)
        if widget.content != text:
            widget.update(text)

    # The table

    def on_resize(self) -> None:
        self._columns = []
        self._draw()

    def _draw_table(self) -> None:
        if self.feed.seen_at != self._drawn_seen_at:
            self._drawn_seen_at = self.feed.seen_at
            self._history.add(self.daemons)
        table = self.query_one(DataTable)
        if not self._columns:
            self._columns = rows.columns(self.size.width - table.scrollbar_size_vertical, PADDING)
            table.clear(columns=True)
            self._drawn = {}
            for column in self._columns:
                table.add_column(Text(column.heading, justify=column.justify), width=column.width, key=column.heading)  # type: ignore[arg-type]
        shown = rows.matching(self.daemons, self._filter)
        found = {daemon.name: tuple(column.text(daemon) for column in self._columns) for daemon in shown}
        if list(found) != list(self._drawn):
            self._fill(table, shown, found)
        else:
            for daemon in shown:
                before, now = self._drawn[daemon.name], found[daemon.name]
                for column, old, new in zip(self._columns, before, now, strict=True):
                    if old != new:
                        table.update_cell(daemon.name, column.heading, self._cell(daemon, column, new))
        self._drawn = found

    def _fill(self, table: DataTable[Text], shown: list[DaemonStatus], found: dict[str, tuple[str, ...]]) -> None:
        wanted = self.selected
        table.clear()
        for daemon in shown:
            cells = zip(self._columns, found[daemon.name], strict=True)
            table.add_row(*(self._cell(daemon, column, text) for column, text in cells), key=daemon.name)
        names = list(found)
        row = names.index(wanted) if wanted in names else 0
        if names:
            table.move_cursor(row=row, animate=False)
        self._select(names[row] if names else None)

    @staticmethod
    def _cell(daemon: DaemonStatus, column: rows.Column, text: str) -> Text:
        # As text: markup in it is not meant as such.
        style = display.STYLES.get(daemon.state, "") if column.heading == "STATE" else ""
        return Text(display.clean(text), style=style, justify=column.justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show the daemon that was selected."""
        name = event.row_key.value
        if name in self._drawn or name in {daemon.name for daemon in self.daemons}:
            self._select(name)
            self._draw_selected()

    def _select(self, name: str | None) -> None:
        if name != self.selected:
            self.selected = name
            self.query_one("#log", Log).clear()
            self._say("#explanation", Text(""))
            self.feed.select(name)

    # The selected daemon

    def _draw_selected(self) -> None:
        daemon = self._daemon()
        self._say("#about", Text(rows.about(daemon) if daemon is not None else "", no_wrap=True, overflow="ellipsis"))
        self._say("#use", self._use(daemon))
        self._say("#tabs", self._tabs())
        if self.feed.log is not None and self.feed.log.name == self.selected:
            begins, lines = self.feed.log.take()
            log = self.query_one("#log", Log)
            if begins:
                log.clear()
            if lines:
                log.write_lines(lines)
        if self.pane == "events":
            self._draw_events()
        elif self.pane == "why":
            self._draw_why()

    def _use(self, daemon: DaemonStatus | None) -> Text:
        if daemon is None:
            return Text("no daemon")
        cpu, memory = f"CPU {rows.cpu(daemon):>6} ", f"  MEMORY {display.size(daemon.rss_bytes):>8} "
        width = max((self.size.width - len(cpu) - len(memory) - 1) // 2, 0)
        lines = self._history.cpu(daemon.name, width), self._history.memory(daemon.name, width)
        return Text.assemble(cpu, (f"{lines[0]:{width}}", "cyan"), memory, (lines[1], "green"), no_wrap=True)

    def _tabs(self) -> Text:
        text = Text(no_wrap=True)
        for pane in ("log", "why", "events"):
            text.append(f" {pane} ", style="reverse" if pane == self.pane else "")
            text.append(" ")
        return text

    def _draw_events(self) -> None:
        shown = (self.selected, self.feed.event_count)
        if shown != self._events_shown:
            self._events_shown = shown
            widget = self.query_one("#events", Log)
            widget.clear()
            widget.write_lines(display.entry(entry) for entry in self._events())

    def _events(self) -> list[JournalEntry]:
        return [entry for entry in list(self.feed.events) if entry.daemon == self.selected is not None]

    def _draw_why(self) -> None:
        name = self.selected
        if name is None:
            return
        asked, count, at = self._asked_why
        if asked != name or count != self.feed.event_count or time.monotonic() - at > EXPLAINED_S:
            self._asked_why = (name, self.feed.event_count, time.monotonic())
            self.feed.explain(name)
        found = self.feed.explanation
        if self.feed.unexplained is not None:
            self._say("#explanation", Text(display.clean(self.feed.unexplained)))
        elif found is not None and found.daemon.name == name:
            self._say("#explanation", Text("\n".join(map(display.clean, explain(found)))))

    # Keys

    def action_show(self, pane: Pane) -> None:
        """Show this of the selected daemon."""
        self.pane = pane
        self.query_one(ContentSwitcher).current = pane
        self._draw()

    def action_order(self, order: OrderName) -> None:
        """Give an order to the selected daemon, after a question if it ends a process."""
        daemon = self._daemon()
        if daemon is None or self.feed.problem is not None:
            self.notify("there is no supervisor to give orders to", severity="warning", markup=False)
            return
        if not rows.ends_a_process(order, daemon):
            self.feed.order(daemon.name, order)
            return

        def answered(said: bool | None) -> None:
            if said:
                self.feed.order(daemon.name, order)

        self.push_screen(Question(rows.question(order, daemon, self.daemons)), answered)

    def action_hold(self) -> None:
        """Hold the selected daemon, or release it."""
        daemon = self._daemon()
        self.action_order("release" if daemon is not None and daemon.held else "hold")

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help(KEYS))

    def action_interrupt(self) -> None:
        """End the view as Ctrl-C ends a program."""
        self.exit(INTERRUPTED)

    # The filter

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def action_all(self) -> None:
        """Show all daemons."""
        self.query_one("#filter", Input).value = ""
        self._end_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the daemons that match."""
        self._filter = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Go back to the table."""
        self._end_filter()

    def _end_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.query_one(DataTable).focus()


def run(client: Client) -> int:
    """Show the view until the user quits it, and return the exit code."""
    app = Watch(client)
    code = app.run(mouse=False)  # the terminal goes on to select text by mouse
    return code if code is not None else (app.return_code or 0)
