"""Events of a test that the page of a run shows, whichever part of the plugin notices them."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest


class Event(NamedTuple):
    """Something that happened during a test."""

    at: float
    """Seconds since the epoch."""
    kind: str
    """A word for it, such as ``died``; the page shows it as a label."""
    text: str


EVENTS = pytest.StashKey[list[Event]]()


def note_event(item: pytest.Item, kind: str, text: str, at: float | None = None) -> None:
    """Show an event of the test on the page of the run, if there is one."""
    item.stash.setdefault(EVENTS, []).append(Event(time.time() if at is None else at, kind, text))


def take_events(item: pytest.Item) -> list[Event]:
    """Return the events since the previous call."""
    events = item.stash.get(EVENTS, [])
    item.stash[EVENTS] = []
    return events
