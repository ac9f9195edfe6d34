"""What people see: the table of daemons, and lines about changes. rich is imported when something is shown."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from neo_daemons.status import DaemonStatus, JournalEntry, Status

if TYPE_CHECKING:
    from rich.console import Console, Group

STYLES = {
    "ready": "green",
    "external": "green",
    "starting": "yellow",
    "running": "yellow",
    "stopping": "yellow",
    "backoff": "red",
    "degraded": "red",
    "parked": "bold red",
    "unavailable": "bold red",
    "held": "magenta",
    "stopped": "dim",
}
WIDE_ENOUGH = 120
"""Columns below which the details stand below the table."""
TELLING = frozenset({"starting", "backoff", "degraded", "parked", "unavailable"})
WIDE = 10_000
"""Columns where the output is no terminal: nothing is cut."""


def console() -> Console:
    """For standard output."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else WIDE)


def table(status: Status, width: int) -> Group:
    """The daemons, one a row; what is to be said of them in the last column, or below where that would be narrow."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    wide = width >= WIDE_ENOUGH
    headings = ("NAME", "STATE", "PID", "URL", "UPTIME", *(("RESTARTS", "CPU", "MEMORY") if wide else ()))
    result = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        result.add_column(heading, no_wrap=True)
    if wide:
        result.add_column("DETAIL", overflow="fold")
    below: list[Text] = []
    for daemon in status.daemons:
        if not wide and remarks(daemon):
            below.append(Text(f"{daemon.name}: {remarks(daemon)}"))
        cells = (
            daemon.name,
            Text(state(daemon), style=STYLES.get(daemon.state, "")),
            str(daemon.pid or "-"),
            Text(daemon.url or "-"),  # no markup: an IPv6 address stands in brackets
            duration(daemon.uptime_s),
            str(daemon.restarts),
            f"{daemon.cpu_percent:.1f}%" if daemon.cpu_percent is not None else "-",
            size(daemon.rss_bytes),
            Text(remarks(daemon)),
        )
        result.add_row(*(cells if wide else cells[:5]))
    return Group(result, *below)


def state(daemon: DaemonStatus) -> str:
    """The state, with what changes its meaning."""
    if daemon.state == "external":
        return "external, ready" if daemon.ready else "external, not ready"
    return f"{daemon.state}, held" if daemon.held and daemon.state != "held" else daemon.state


def remarks(daemon: DaemonStatus) -> str:
    """What else is to be known."""
    parts = [daemon.detail, f"mend it with: {daemon.remedy}" if daemon.remedy else None, daemon.note]
    return clean("; ".join(part for part in parts if part))


def line(daemon: DaemonStatus) -> str:
    """One daemon on one line."""
    parts = [f"{daemon.name}: {state(daemon)}"]
    if daemon.pid is not None:
        parts.append(f"pid {daemon.pid}")
    if daemon.url is not None and daemon.pid is not None:
        parts.append(daemon.url)
    if remarks(daemon):
        parts.append(remarks(daemon))
    return ", ".join(parts)


def entry(event: JournalEntry) -> str:
    """One entry of the journal on one line."""
    parts = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at)), event.daemon or "-", event.event]
    if event.pid is not None:
        parts.append(f"pid {event.pid}")
    text = "  ".join(parts)
    return clean(f"{text}  {event.detail}" if event.detail else text)


CSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""A control sequence, ECMA-48 §5.4."""
COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def clean(text: str) -> str:
    """Without what would move the cursor or recolour the terminal: it may come from a daemon's log or a command
    line."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in CSI.sub("", text))


def tame(text: str) -> str:
    """A log for a terminal: its colours and line ends, and nothing else that takes effect."""
    kept = COLOUR.findall(text)
    pieces = COLOUR.split(text)
    pieces = ["".join(c if c.isprintable() or c in "\n\t" else "" for c in CSI.sub("", piece)) for piece in pieces]
    return "".join(piece + colour for piece, colour in zip(pieces, [*kept, ""], strict=True))


def duration(seconds: float | None) -> str:
    """Rounded, for people."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            rest = {"d": f" {whole % 86400 // 3600}h", "h": f" {whole % 3600 // 60}m", "m": f" {whole % 60}s"}[unit]
            return f"{whole // length}{unit}{rest}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"


def size(count: int | None) -> str:
    """Bytes in megabytes."""
    return "-" if count is None else f"{count / 1e6:.0f} MB"


class Lines:
    """Where there is no terminal: a line whenever a daemon's state changes, or what it is about in a state that
    people want to know more of."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or (lambda text: print(text, flush=True))
        self._shown: dict[str, tuple[str, str | None]] = {}

    def is_new(self, name: str, state: str, detail: str | None) -> bool:
        """Whether `show` would print a daemon that is in this state."""
        return self._shown.get(name) != (state, detail if state in TELLING else None)

    def show(self, daemons: Iterable[DaemonStatus]) -> None:
        """Print what is new."""
        for daemon in daemons:
            if self.is_new(daemon.name, daemon.state, daemon.detail):
                self._shown[daemon.name] = (daemon.state, daemon.detail if daemon.state in TELLING else None)
                self._write(line(daemon))
