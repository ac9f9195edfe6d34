"""The lines in a daemon's log that explain what became of it."""

from __future__ import annotations

import contextlib

from neo_daemons.references import UnknownReference, expand_all

from .past import Span
from .probes import without_requests_of
from .slot import Slot

LAST_LINES = 10
"""Among these the last words of a daemon are looked for: some end with empty lines."""
LONGEST = 200
OWN_REQUESTS = 500
"""Lines more that are read for those that are left out: a server logs each request of our probes."""


def lines(slot: Slot, span: Span, count: int) -> list[str]:
    """The last lines of a span, without our own requests, unless there is nothing else."""
    found = slot.log.tail(count + OWN_REQUESTS, span.start, span.end)
    probes = [*slot.definition.ready, *slot.definition.live]
    with contextlib.suppress(UnknownReference):  # of a daemon that is not there any more
        probes = [expand_all(probe, slot.values()) for probe in probes]
    return ([*without_requests_of(probes, found)] or found)[-count:]


def last_line(slot: Slot, span: Span) -> str | None:
    """The last line of a span that is not empty, cut to `LONGEST` characters."""
    last = next(filter(str.strip, reversed(lines(slot, span, LAST_LINES))), None)
    return last[:LONGEST] if last is not None else None
