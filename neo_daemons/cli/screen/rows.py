"""What the view shows of daemons, as text: columns, sparklines, questions. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from neo_daemons.control.api import OrderName
from neo_daemons.status import DaemonStatus
from neo_daemons.urls import redacted

from .. import display

SIGNS = {"green": "●", "yellow": "◐", "red": "✗", "bold red": "✗", "magenta": "◆", "dim": "○"}
"""By style, so that the signs tell as much as the colours."""
BLOCKS = "▁▂▃▄▅▆▇█"
REMEMBERED = 120
"""How many measurements are kept of each daemon."""


class Column(NamedTuple):
    """A column of the table."""

    heading: str
    width: int
    text: Callable[[DaemonStatus], str]
    from_width: int = 0
    """It is shown on terminals that are at least so wide."""
    justify: Literal["left", "right"] = "left"


def state(daemon: DaemonStatus) -> str:
    """Return the state of a daemon with a sign that tells good from bad without colours."""
    ready = daemon.state != "external" or daemon.ready
    sign = SIGNS.get(display.STYLES.get(daemon.state, ""), " ") if ready else "✗"
    return f"{sign} {display.state(daemon)}"


def port(daemon: DaemonStatus) -> str:
    """Return the first port of a daemon."""
    return str(next(iter(daemon.ports.values()), "-"))


def cpu(daemon: DaemonStatus) -> str:
    """Return the CPU that a daemon uses."""
    return f"{daemon.cpu_percent:.1f}%" if daemon.cpu_percent is not None else "-"


def memory(daemon: DaemonStatus) -> str:
    """Return the memory that a daemon uses, in at most seven characters."""
    rss_bytes = daemon.rss_bytes
    return f"{rss_bytes / 1e9:.1f} GB" if rss_bytes is not None and rss_bytes >= 1e10 else display.size(rss_bytes)


GAP = 1
"""What each column takes beside its text."""
NAME, LONG_NAME = 8, 32
COLUMNS = (
    Column("STATE", 14, state),
    Column("READY", 5, lambda daemon: "yes" if daemon.ready else "no"),
    Column("PID", 7, lambda daemon: str(daemon.pid or "-"), justify="right"),
    Column("PORT", 5, port, justify="right"),
    Column("UPTIME", 7, lambda daemon: display.duration(daemon.uptime_s), justify="right"),
    Column("RST", 3, lambda daemon: str(daemon.restarts), justify="right"),
    Column("CPU", 6, cpu, justify="right"),
    Column("MEMORY", 7, memory, justify="right"),
    Column(" DETAIL", 0, lambda daemon: f" {display.remarks(daemon)}", from_width=110),
)
"""Those after the name. One of width 0 takes what is left."""


def columns(width: int) -> list[Column]:
    """Return the columns for a table of this width. The name gets what the others leave, unless there is a detail."""
    shown = [column for column in COLUMNS if width >= column.from_width]
    rest = width - sum(column.width + GAP for column in shown) - GAP
    if shown[-1].width:
        return [Column("NAME", max(rest, NAME), lambda daemon: daemon.name), *shown]
    name = min(rest // 3, LONG_NAME)
    return [Column("NAME", name, lambda daemon: daemon.name), *shown[:-1], shown[-1]._replace(width=rest - name)]


class History:
    """The latest measurements of each daemon."""

    def __init__(self) -> None:
        self._cpu: dict[str, deque[float]] = {}
        self._memory: dict[str, deque[float]] = {}

    def add(self, daemons: Iterable[DaemonStatus]) -> None:
        """Take in a status, and forget daemons that it does not have."""
        names = set()
        for daemon in daemons:
            names.add(daemon.name)
            self._cpu.setdefault(daemon.name, deque(maxlen=REMEMBERED)).append(daemon.cpu_percent or 0.0)
            self._memory.setdefault(daemon.name, deque(maxlen=REMEMBERED)).append(float(daemon.rss_bytes or 0))
        for known in (self._cpu, self._memory):
            for name in known.keys() - names:
                del known[name]

    def cpu(self, name: str, width: int) -> str:
        """Return a sparkline of the CPU; its top is at least one percent, so that rest looks like rest."""
        return sparkline(self._cpu.get(name, ()), width, least=1.0)

    def memory(self, name: str, width: int) -> str:
        """Return a sparkline of the memory."""
        return sparkline(self._memory.get(name, ()), width)


def sparkline(values: Iterable[float], width: int, least: float = 0.0) -> str:
    """Draw the last `width` values, from zero to the largest of them, or to `least` if that is larger."""
    latest = list(values)[-width:] if width > 0 else []
    top = max([least, *latest])
    if not top:
        return BLOCKS[0] * len(latest)
    return "".join(BLOCKS[min(int(value / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in latest)


def matching(daemons: Sequence[DaemonStatus], text: str) -> list[DaemonStatus]:
    """Return the daemons whose name or state contains each word of a text."""
    words = text.lower().split()
    return [one for one in daemons if all(word in f"{one.name} {display.state(one)}".lower() for word in words)]


def summary(daemons: Sequence[DaemonStatus]) -> str:
    """Say how many daemons are in which state, the most frequent first."""
    counts: dict[str, int] = {}
    for daemon in daemons:
        counts[daemon.state] = counts.get(daemon.state, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


def about(daemon: DaemonStatus) -> str:
    """Say on one line what the table has no room for."""
    url = redacted(daemon.url) if daemon.url is not None else None
    return "  ".join(filter(None, (daemon.name, url, display.remarks(daemon))))


def ends_a_process(order: OrderName, daemon: DaemonStatus) -> bool:
    """Whether an order ends a running process."""
    return order in ("stop", "restart") and daemon.pid is not None


def question(order: OrderName, daemon: DaemonStatus, daemons: Iterable[DaemonStatus]) -> str:
    """Ask whether an order that ends a process is meant, and name what else it concerns."""
    text = f"{order.capitalize()} {daemon.name} (pid {daemon.pid})?"
    requiring = [one.name for one in daemons if daemon.name in one.requires and one.pid is not None]
    holders = [display.holder(one) for one in daemon.holders]
    for names, what in ((requiring, "required by"), (holders, "in use by")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            text += f"\n{what} {', '.join(names[:3])}{more}"
    return display.tame(text)
