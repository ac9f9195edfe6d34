"""The table of daemons and lines about changes, for people. rich is imported when something is shown."""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from neo_daemons.status import DaemonStatus, Holder, JournalEntry, Status
from neo_daemons.urls import redacted

if TYPE_CHECKING:
    from rich.console import Console, Group

STYLES = {
    "ready": "green",
    "done": "green",
    "external": "green",
    "starting": "yellow",
    "running": "yellow",
    "stopping": "yellow",
    "backoff": "red",
    "degraded": "red",
    "parked": "bold red",
    "unavailable": "bold red",
    "held": "magenta",
    "idle": "dim",
    "stopped": "dim",
}
WIDE_ENOUGH = 120
"""In fewer columns, the details are shown below the table."""
HEADINGS = ("NAME", "STATE", "PID", "URL", "UPTIME", "RESTARTS", "CPU", "MEMORY")
DROPPED = ("MEMORY", "CPU", "URL", "UPTIME", "PID")
"""Columns left out on a narrow terminal, the least important first. Name, state and restarts are always shown."""
GAP = 2
DETAIL_WIDTH = 28
"""With fewer columns left for them, the details are shown below the table, too."""
DETAILED = frozenset({"starting", "backoff", "degraded", "parked", "unavailable"})
STILL_HELD = "{} is still locked by an unidentified or unkillable process; run `{}`"


def show_table(status: Status) -> None:
    """Print a table of the daemons: in colour and as wide as the terminal, or plain and uncut."""
    if sys.stdout.isatty() or (is_coloured() and os.environ.get("FORCE_COLOR")):
        shown = console()
        shown.print(table(status, shown.width))
        return
    rows = [(*HEADINGS, "DETAIL"), *((*_cells(daemon).values(), remarks(daemon)) for daemon in status.daemons)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print((" " * GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def is_coloured() -> bool:
    """Return whether to write colours: to a terminal that has them, and always with ``FORCE_COLOR``, but never with
    ``NO_COLOR``."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def console() -> Console:
    """Return a console that writes to standard output."""
    from rich.console import Console

    if is_coloured():
        return Console(highlight=False)
    return Console(highlight=False, color_system=None)


def prefixes(names: Sequence[str]) -> dict[str, str]:
    """Return what stands before the lines of each daemon: its name, as wide as all, and in a colour of its own."""
    width = max(map(len, names))
    colours = itertools.cycle(PREFIX_COLOURS) if is_coloured() else itertools.repeat(None)
    return {
        name: name.ljust(width) if colour is None else f"\x1b[{colour}m{name.ljust(width)}{RESET}"
        for name, colour in zip(names, colours, strict=False)
    }


def table(status: Status, width: int) -> Group:
    """Return a table of the daemons, `width` columns wide; what does not fit is listed below it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = [_cells(daemon) for daemon in status.daemons]
    headings = list(HEADINGS)
    for dropped in DROPPED:
        if _width(headings, rows) <= width:
            break
        headings.remove(dropped)
    wide = width >= WIDE_ENOUGH and width - _width(headings, rows) >= DETAIL_WIDTH
    result = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        # A name may be longer than the terminal is wide.
        result.add_column(heading, no_wrap=heading not in ("NAME", "STATE"), overflow="fold")
    if wide:
        result.add_column("DETAIL", overflow="fold")
    below: list[Text] = []
    for daemon, row in zip(status.daemons, rows, strict=True):
        style = STYLES.get(daemon.state, "")
        # As text: an IPv6 address stands in brackets, which would be markup.
        cells = [Text(row[heading], style=style if heading == "STATE" else "") for heading in headings]
        rest = [remarks(daemon)] if not wide else []
        if "URL" not in headings and daemon.url is not None:
            rest.insert(0, redacted(daemon.url))
        if text := "; ".join(filter(None, rest)):
            below.append(Text(f"{daemon.name}: {text}"))
        result.add_row(*cells, *([Text(remarks(daemon))] if wide else []))
    return Group(result, *below)


def _cells(daemon: DaemonStatus) -> dict[str, str]:
    return {
        "NAME": daemon.name,
        "STATE": state(daemon),
        "PID": str(daemon.pid or "-"),
        "URL": redacted(daemon.url or "-"),
        "UPTIME": duration(daemon.uptime_s),
        "RESTARTS": str(daemon.restarts),
        "CPU": f"{daemon.cpu_percent:.1f}%" if daemon.cpu_percent is not None else "-",
        "MEMORY": size(daemon.rss_bytes),
    }


def _width(headings: Iterable[str], rows: Iterable[dict[str, str]]) -> int:
    """Return the width of a table with these columns."""
    widths = [max(len(heading), *(len(row[heading]) for row in rows), 0) for heading in headings]
    return sum(widths) + GAP * (len(widths) - 1)


def state(daemon: DaemonStatus) -> str:
    """Return a daemon's state, with "on hold" or "ready" where that changes its meaning."""
    if daemon.state == "external":
        return "external, ready" if daemon.ready else "external, not ready"
    return f"{daemon.state}, on hold" if daemon.held and daemon.state != "held" else daemon.state


def remarks(daemon: DaemonStatus) -> str:
    """Return the details, the remedy and the note of a daemon, and who needs it, on one line."""
    parts = [daemon.detail, f"fix: {daemon.remedy}" if daemon.remedy else None, daemon.note, *_need(daemon)]
    return clean("; ".join(part for part in parts if part))


def _need(daemon: DaemonStatus) -> Iterator[str]:
    """Yield who needs a daemon on demand, and when it stops for want of a need."""
    if daemon.holders:
        more = len(daemon.holders) - 1
        others = f" and {more} other{'s' if more > 1 else ''}" if more else ""
        yield f"needed by {holder(daemon.holders[0])}{others}"
    if daemon.idle_stop_at is not None:
        yield f"stops in {duration(max(0.0, daemon.idle_stop_at - time.time()))} unless needed"


def holder(one: Holder) -> str:
    """Describe somebody who needs a daemon."""
    return f"{one.name} (pid {one.pid})" if one.pid is not None else one.name


def line(daemon: DaemonStatus) -> str:
    """Describe a daemon on one line."""
    parts = [f"{daemon.name}: {state(daemon)}"]
    if daemon.pid is not None:
        parts.append(f"pid {daemon.pid}")
    if daemon.url is not None and daemon.pid is not None:
        parts.append(redacted(daemon.url))
    if remarks(daemon):
        parts.append(remarks(daemon))
    return ", ".join(parts)


def entry(event: JournalEntry) -> str:
    """Show a journal entry on one line."""
    parts = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)), event.daemon or "-", event.event]
    if event.pid is not None:
        parts.append(f"pid {event.pid}")
    text = "  ".join(parts)
    return clean(f"{text}  {event.detail}" if event.detail else text)


CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\))")
"""A control sequence, ECMA-48 §5.4, or a control string with its text, such as a title or a link, §5.6."""
COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
RESET = "\x1b[0m"
PREFIX_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""Foregrounds that can be read on light and dark: cyan, yellow, green, magenta, blue, and the same brighter."""


def clean(text: str) -> str:
    """Remove what would move the cursor or recolour the terminal: the text may come from a log or a command line."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in CONTROL.sub("", text))


def tame(text: str, *, coloured: bool = True) -> str:
    """Prepare a log for a terminal: keep line ends, and colours if it is `coloured`; remove all other control
    sequences."""
    kept = COLOUR.findall(text) if coloured else [""] * len(COLOUR.findall(text))
    pieces = COLOUR.split(text)
    pieces = ["".join(c if c.isprintable() or c in "\n\t" else "" for c in CONTROL.sub("", piece)) for piece in pieces]
    return "".join(piece + colour for piece, colour in zip(pieces, [*kept, ""], strict=True))


def duration(seconds: float | None) -> str:
    """Show a duration, rounded, for people."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            rest = {"d": f" {whole % 86400 // 3600}h", "h": f" {whole % 3600 // 60}m", "m": f" {whole % 60}s"}[unit]
            return f"{whole // length}{unit}{rest}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"


def size(count: int | None) -> str:
    """Show a number of bytes in megabytes."""
    return "-" if count is None else f"{count / 1e6:.0f} MB"


class Lines:
    """Prints a line whenever a daemon's state changes, or the details of a state that needs attention. Used without a
    terminal."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or (lambda text: print(text, flush=True))
        self._shown: dict[str, tuple[str, str | None]] = {}

    def is_new(self, name: str, state: str, detail: str | None) -> bool:
        """Return whether `show` would print a daemon that is in this state."""
        return self._shown.get(name) != (state, detail if state in DETAILED else None)

    def show(self, daemons: Iterable[DaemonStatus]) -> None:
        """Print the daemons that have changed."""
        for daemon in daemons:
            if self.is_new(daemon.name, daemon.state, daemon.detail):
                self._shown[daemon.name] = (daemon.state, daemon.detail if daemon.state in DETAILED else None)
                self._write(line(daemon))
