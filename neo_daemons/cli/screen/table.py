"""The table of daemons. Only cells that have changed are drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import DataTable

from neo_daemons.status import DaemonStatus

from .. import display
from . import rows

SCROLLBAR = 1


class Daemons(DataTable[Text]):
    """One row for each daemon."""

    DEFAULT_CSS = """
    Daemons { height: auto; max-height: 50%; background: $background; overflow-x: hidden; scrollbar-size: 1 1; }
    Daemons:ansi > .datatable--header { text-style: bold underline; background: $background; color: $foreground; }
    Daemons:ansi > .datatable--cursor { text-style: reverse; background: $background; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__(cursor_type="row", cell_padding=0)
        self._columns: list[rows.Column] = []
        self._drawn: dict[str, tuple[str, ...]] = {}
        """Daemon → its cells."""

    def fit(self, width: int) -> None:
        """Choose the columns for a terminal of this width."""
        self._columns = rows.columns(width - SCROLLBAR)
        self.clear(columns=True)
        self._drawn = {}
        for column in self._columns:
            heading = Text(column.heading, justify=column.justify)
            self.add_column(heading, width=column.width + rows.GAP, key=column.heading)

    def show(self, daemons: Sequence[DaemonStatus], selected: str | None) -> str | None:
        """Show these daemons, with the cursor on the selected one. Returns which one is selected now."""
        found = {daemon.name: tuple(column.text(daemon) for column in self._columns) for daemon in daemons}
        if list(found) != list(self._drawn):
            self.clear()
            for daemon in daemons:
                cells = zip(self._columns, found[daemon.name], strict=True)
                self.add_row(*(cell(daemon, column, text) for column, text in cells), key=daemon.name)
            names = list(found)
            if selected not in found:
                selected = names[0] if names else None
            if selected is not None:
                self.move_cursor(row=names.index(selected), animate=False)
        else:
            for daemon in daemons:
                before, now = self._drawn[daemon.name], found[daemon.name]
                for column, old, new in zip(self._columns, before, now, strict=True):
                    if old != new:
                        self.update_cell(daemon.name, column.heading, cell(daemon, column, new))
        self._drawn = found
        return selected


def cell(daemon: DaemonStatus, column: rows.Column, text: str) -> Text:
    """Return what a cell shows: text, in which markup is not meant as such, cut so that there is a gap behind it."""
    style = display.STYLES.get(daemon.state, "") if column.heading == "STATE" else ""
    shown = Text(display.clean(text), style=style, justify=column.justify, no_wrap=True, overflow="ellipsis")
    shown.truncate(column.width, overflow="ellipsis")
    return shown
