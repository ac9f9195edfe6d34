"""Events of a test that the page of a run shows, whichever part of the plugin notices them."""

from __future__ import annotations

import pytest
from msgspec import Struct

from neo_daemons.unpatched import Unpatched


class Event(Struct, frozen=True):
    """Something that happened during a test."""

    at: float
    """Seconds since the epoch."""
    kind: str
    """A word for it, such as ``died``; the page shows it as a label."""
    text: str


EVENTS = pytest.StashKey[list[Event]]()


def note_event(item: pytest.Item, kind: str, text: str, at: float | None = None) -> None:
    """Show an event of the test on the page of the run, if there is one."""
    found = Event(Unpatched.time() if at is None else float(at), str(kind), str(text))
    item.stash.setdefault(EVENTS, []).append(found)


def take_events(item: pytest.Item) -> list[Event]:
    """Return the events since the previous call."""
    events = item.stash.get(EVENTS, [])
    item.stash[EVENTS] = []
    return events
