"""Finds the daemons that a test depends on: those that it uses, and those that these require or start after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neo_daemons.status import DaemonStatus, Status


def needs(status: Status) -> dict[str, tuple[str, ...]]:
    """Map each daemon to those that it requires or starts after."""
    return {daemon.name: (*daemon.requires, *daemon.after) for daemon in status.daemons}


def with_needs(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> dict[str, str | None]:
    """Return these daemons and all that they depend on, each with the first daemon that needs it (None for `names`)."""
    found: dict[str, str | None] = dict.fromkeys(names)
    ahead = list(found)
    while ahead:
        name = ahead.pop(0)
        for other in needs.get(name, ()):
            if other not in found:
                found[other] = name
                ahead.append(other)
    return found


def not_up(names: Iterable[str], status: Status) -> list[str]:
    """Return a sentence for each of these daemons, and of those that they need, that is not usable now."""
    daemons = {daemon.name: daemon for daemon in status.daemons}
    return [
        describe(daemons[name], needed_by)
        for name, needed_by in with_needs(names, needs(status)).items()
        if name in daemons and not is_usable(daemons[name])
    ]


def is_usable(daemon: DaemonStatus) -> bool:
    """Return whether a daemon can be used now."""
    return daemon.ready or daemon.state == "degraded"


def describe(daemon: DaemonStatus, needed_by: str | None) -> str:
    """Describe a daemon that is not up, and which daemon needs it."""
    who = f"{daemon.name}, which {needed_by} needs," if needed_by is not None else daemon.name
    state = "not ready" if daemon.state in ("ready", "external") else daemon.state
    return f"{who} is {state}{f': {daemon.detail}' if daemon.detail else ''}"
