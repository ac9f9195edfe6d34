"""How a run ended, for the restart policy and for people."""

from __future__ import annotations

from typing import NamedTuple

from neo_daemons.status import Cause

from . import log_lines
from .past import Past
from .run import Run
from .situation import Situation


class Outcome(NamedTuple):
    """How a run ended."""

    cause: Cause
    clean: bool
    """Whether the process exited with code 0."""
    text: str


NOT_STARTED = Outcome(Cause.OPERATOR, False, "not started")
"""A start was abandoned before there was a process."""


def outcome_of(run: Run, past: Past, situation: Situation, *, unprompted: bool, for_good: bool) -> Outcome:
    """Return how a run ended, all of which is gone.

    Args:
        situation: the situation of the daemon while it is being stopped.
        unprompted: its process exited by itself.
        for_good: it was ordered to stop.
    """
    last, cause = past.last_exit, run.cause
    text = last.text if last is not None else NOT_STARTED.text
    if unprompted and past.ended is not None:
        last_line = log_lines.last_line(run.slot, past.ended)
        text = f"{text}; last line: {last_line}" if last_line is not None else text
    if cause in (Cause.PROBE, Cause.RECYCLED):
        text = situation.detail or text
    if for_good:
        text, cause = past.stopped(situation, run.slot.definition.stop) or text, Cause.OPERATOR
    return Outcome(cause, last is not None and last.code == 0, text)
