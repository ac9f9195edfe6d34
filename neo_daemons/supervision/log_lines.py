"""Find the lines in a daemon's log that explain its state."""

from __future__ import annotations

import contextlib

from neo_daemons.references import UnknownReference, expand_all

from .past import Span
from .probes import without_requests_of
from .slot import Slot

LAST_LINES = 10
"""The last non-empty line is searched for among these, as some daemons end with empty lines."""
LONGEST = 200
OWN_REQUESTS = 500
"""Extra lines to read, because a server logs each request of our probes and these are left out."""


def lines(slot: Slot, span: Span, count: int) -> list[str]:
    """Return the last lines of a span, without the requests of our probes unless there is nothing else."""
    if span.start >= span.end:
        return []
    found = slot.log.tail(count + OWN_REQUESTS, span.start, span.end)
    probes = [*slot.definition.ready, *slot.definition.live]
    with contextlib.suppress(UnknownReference):  # to a daemon that no longer exists
        probes = [expand_all(probe, slot.values()) for probe in probes]
    return ([*without_requests_of(probes, found)] or found)[-count:]


def last_line(slot: Slot, span: Span) -> str | None:
    """Return the last non-empty line of a span, cut to `LONGEST` characters."""
    last = next(filter(str.strip, reversed(lines(slot, span, LAST_LINES))), None)
    return last[:LONGEST] if last is not None else None
