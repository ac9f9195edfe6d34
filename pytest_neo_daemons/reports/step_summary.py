"""Appends a table of the daemons to the summary of a GitHub Actions step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from neo_daemons.status import DaemonStatus
from neo_daemons.urls import redacted_within

from ..incidents import Incident

MAX_INCIDENTS = 10


def markdown(
    outcome: str, daemons: Iterable[DaemonStatus], starts: Mapping[str, int], incidents: Iterable[Incident]
) -> str:
    """Return the table; "" if no daemon ran.

    Args:
        starts: how often each daemon was started.
        incidents: those that no test asked for.
    """
    rows, listed = list[str](), [*incidents]
    for daemon in daemons:
        number = starts.get(daemon.name, 0)
        if number or daemon.ready:
            ready = f"{daemon.ready_after_s:.2f} s" if daemon.ready_after_s is not None and number else "–"
            own = sum(incident.daemon == daemon.name for incident in listed)
            cells = (daemon.name, daemon.state, number, max(number - 1, 0), ready, own)
            rows.append(f"| {' | '.join(_cell(str(cell)) for cell in cells)} |")
    if not rows:
        return ""
    head = ["| daemon | state | starts | restarts | ready after | incidents |", "|---|---|--:|--:|--:|--:|"]
    told = [f"* {_cell(str(incident))}" for incident in listed[:MAX_INCIDENTS]]
    more = [f"* and {len(listed) - MAX_INCIDENTS} more"] if len(listed) > MAX_INCIDENTS else []
    tail = ["", *told, *more] if told else []
    return "\n".join([f"### neo-daemons: {outcome}", "", *head, *rows, *tail, "", ""])


def append(path: Path, text: str) -> None:
    """Append the table to the summary.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _cell(text: str) -> str:
    text = " ".join(redacted_within(text).split())
    for character in "\\|`<>*_[]":
        text = text.replace(
            character, f"\\{character}" if character not in "<>" else {"<": "&lt;", ">": "&gt;"}[character]
        )
    return text
