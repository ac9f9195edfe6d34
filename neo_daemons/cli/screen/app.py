"""The full-screen view: its parts, its keys, and the orders that they give."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key, Resize
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Footer, Input, Static

from neo_daemons.control.api import OrderName
from neo_daemons.control.client import Client
from neo_daemons.status import DaemonStatus

from .. import display
from . import rows
from .detail import Detail, Pane, say
from .dialogs import Help, Question
from .feed import Feed
from .table import Daemons

DRAWN_S = 0.1
"""The shortest time between two drawings."""
NOTED_S = 5.0
"""How long the outcome of an order is shown."""
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as of a program that is ended by them."""
KEYS = """\
↑ ↓            select a daemon
tab            to the log, `why` or events, to scroll there
l  w  e        show the log, why it is in its state, its events
r              restart it (asks first)
x              stop it (asks first)
s              start it
h              hold it: no restart after an exit; again: release it
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
    #head { height: 1; text-style: reverse; }
    #problem { height: auto; max-height: 4; text-style: bold; display: none; }
    #note { height: auto; max-height: 3; text-style: bold; display: none; }
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
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"  # the terminal's own colours, on its own background
        self.feed = Feed(client, self._wake)
        self.selected: str | None = None
        self._place = client.state_dir.path
        self._history = rows.History()
        self._drawn_seen_at = 0.0
        self._filter = ""
        self._width = 80
        self._awake = False
        self._noting: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="problem")
        yield Daemons()
        yield Detail(self.feed, self._history)
        yield Static(id="note")
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
            self.query_one(Detail).draw(self._daemon(), self._width)
        while self.feed.notices:
            text, is_error = self.feed.notices.popleft()
            self._note(text, is_error=is_error)

    @property
    def daemons(self) -> tuple[DaemonStatus, ...]:
        """All daemons, as last seen."""
        return self.feed.status.daemons if self.feed.status is not None else ()

    def _daemon(self) -> DaemonStatus | None:
        return next((daemon for daemon in self.daemons if daemon.name == self.selected), None)

    def _draw_head(self) -> None:
        status, problem = self.feed.status, self.feed.problem
        parts = ["neo-daemons"]
        if self._filter:
            parts.append(f"filter: {self._filter}")
        if status is not None:
            parts += [f"pid {status.supervisor.pid}", rows.summary(status.daemons)]
        parts.append(str(self._place.absolute().parent))
        line = display.clean("  ".join(parts)).ljust(self._width)
        say(self.query_one("#head", Static), Text(line, no_wrap=True, overflow="ellipsis"))
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
            say(banner, Text(display.clean(problem), style="red"))

    def _note(self, text: str, *, is_error: bool) -> None:
        """Show a line for some seconds."""
        note = self.query_one("#note", Static)
        note.display = True
        say(note, Text(display.clean(text), style="red" if is_error else ""))
        if self._noting is not None:
            self._noting.stop()
        self._noting = self.set_timer(NOTED_S, lambda: note.set_styles("display: none;"))

    # The table

    def on_resize(self, event: Resize) -> None:
        self._width = event.size.width
        self.query_one(Daemons).fit(self._width)
        self._draw()

    def _draw_table(self) -> None:
        if self.feed.seen_at != self._drawn_seen_at:
            self._drawn_seen_at = self.feed.seen_at
            self._history.add(self.daemons)
        shown = rows.matching(self.daemons, self._filter)
        self._select(self.query_one(Daemons).show(shown, self.selected))

    def on_data_table_row_highlighted(self, event: Daemons.RowHighlighted) -> None:
        """Show the daemon that was selected."""
        if event.cursor_row == self.query_one(Daemons).cursor_row:  # it has not moved on meanwhile
            self._select(event.row_key.value)
            self.query_one(Detail).draw(self._daemon(), self._width)

    def _select(self, name: str | None) -> None:
        self.selected = name
        self.query_one(Detail).select(name)

    # Keys

    def action_show(self, pane: Pane) -> None:
        """Show this of the selected daemon."""
        self.query_one(Detail).turn_to(pane)
        self._draw()

    def action_order(self, order: OrderName) -> None:
        """Give an order to the selected daemon, after a question if it ends a process."""
        daemon = self._daemon()
        if self.feed.problem is not None or self.feed.status is None:
            self._note("there is no supervisor to give orders to", is_error=True)
            return
        if daemon is None:
            self._note("no daemon is selected", is_error=True)
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
        self.screen.set_focus(field)  # at once

    def on_key(self, event: Key) -> None:
        """Give the filter what was typed right after its key: it was on its way to the table, and is no order."""
        field = self.query_one("#filter", Input)
        if self.focused is field and event.is_printable and event.character is not None:
            event.prevent_default().stop()
            field.insert_text_at_cursor(event.character)

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
        self.screen.set_focus(self.query_one(Daemons))


def run(client: Client) -> int:
    """Show the view until the user quits it, and return the exit code."""
    app = Watch(client)
    code = app.run(mouse=False)  # the terminal goes on to select text by mouse
    return code if code is not None else (app.return_code or 0)
