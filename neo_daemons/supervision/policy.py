"""The restart policy, a pure function: from a daemon's history and how a run ended to a verdict with delay and reason.

The clock (monotonic seconds) and the randomness are arguments.
"""

from __future__ import annotations

import random
from collections import deque

from msgspec import Struct

from neo_daemons.definitions import Restart
from neo_daemons.status import Cause

from .machine import Event

HOUR_S = 3600.0
"""The window of the kill budget."""


class Verdict(Struct, frozen=True):
    """What happens to a daemon after a run."""

    event: Event
    """RETRY, PARK, REST or KEEP."""
    delay_s: float | None
    """Seconds until the next try; None: never by itself."""
    reason: str


class History:
    """The failures of a daemon that still count."""

    def __init__(self) -> None:
        self.failures = 0
        """Consecutive failures: since the last stable run."""
        self.first_cause: str | None = None
        """The cause of the first of these failures, which is usually the real one."""
        self.restarts: deque[float] = deque()
        """Times of the restarts within the window."""
        self.kills: deque[float] = deque()
        """Times within the last hour at which a probe's verdict ended a run."""

    def forget(self) -> None:
        """Reset the failures, on an operator's order or after a stable run. Kills are kept: their budget is hourly, so
        that a daemon that is stable for just long enough is not killed for ever."""
        self.failures = 0
        self.first_cause = None
        self.restarts.clear()


def delay_s(restart: Restart, failures: int, rng: random.Random) -> float:
    """Return the seconds before the restart after the `failures`-th consecutive failure, counted from 1: none before
    the first, then exponentially more up to a ceiling, and up to a fraction of that in addition."""
    if failures <= 1:
        return 0.0
    try:
        delay = min(restart.base_s * restart.factor ** (failures - 2), restart.ceiling_s)
    except OverflowError:  # after a thousand failures
        delay = restart.ceiling_s
    return delay + delay * restart.jitter * rng.random()


def may_kill(restart: Restart, history: History, now: float) -> bool:
    """Whether the kill budget of the probes allows another kill."""
    _drop_before(history.kills, now - HOUR_S)
    return len(history.kills) < restart.kills


def times(number: int) -> str:
    """Return how often, in words."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def revival_s(restart: Restart) -> float | None:
    """Return the seconds until a parked daemon is tried again; None: only by an operator."""
    return None if restart.when == "never" else restart.revive_s or None


def decide(
    restart: Restart,
    history: History,
    *,
    cause: Cause,
    clean: bool,
    came_up: bool,
    lost_its_port: bool,
    held: bool,
    oneshot: bool,
    detail: str,
    now: float,
    rng: random.Random,
) -> Verdict:
    """Decide what follows the end of a run, and update `history`.

    Args:
        clean: the process exited with code 0.
        came_up: the daemon was ready at some time in this run.
        lost_its_port: another process had one of its ports when the run ended.
        oneshot: the daemon runs once, so a clean exit is a success.
        detail: how the run ended, for the reason.
        now: monotonic seconds.
    """
    if cause is Cause.PROBE:
        history.kills.append(now)
    if cause is Cause.OPERATOR:
        return Verdict(Event.RETRY, 0.0, detail)
    finished = cause is Cause.EXIT and clean
    if oneshot and finished:
        return Verdict(Event.DONE, None, detail)
    if held:
        return Verdict(Event.KEEP, None, f"on hold, so not restarted: {detail}")
    if cause is Cause.RECYCLED:
        return Verdict(Event.RETRY, 0.0, detail)
    by_itself = cause in (Cause.EXIT, Cause.SIGNAL, Cause.FAULT)
    rests = {"never": by_itself and (finished or came_up or cause is Cause.FAULT), "on-failure": finished}
    if rests.get(restart.when, False):
        return Verdict(Event.REST, None, f"{detail}; restart = {restart.when!r}")
    if cause is Cause.FAULT:
        return Verdict(Event.RETRY, 0.0, detail)

    history.failures += 1
    history.first_cause = history.first_cause or detail
    lost_a_race = lost_its_port and not came_up and cause is not Cause.START_FAILED
    if restart.when == "never" and not lost_a_race:
        # Its start or its probes failed, so it does not rest as after finished work.
        return Verdict(Event.PARK, None, f"{detail}; restart = {restart.when!r}")
    _drop_before(history.restarts, now - restart.window_s)
    history.restarts.append(now)
    if len(history.restarts) > restart.limit:
        limit = f"{restart.limit} within {restart.window_s:g} s"
        reason = f"restart limit reached ({limit}); first cause: {history.first_cause}"
        return Verdict(Event.PARK, revival_s(restart), reason)
    if cause is Cause.PROBE and not may_kill(restart, history, now):
        reason = (
            f"stopped {times(len(history.kills))} within an hour because its probes failed; "
            f"first cause: {history.first_cause}"
        )
        return Verdict(Event.PARK, revival_s(restart), reason)
    return Verdict(Event.RETRY, delay_s(restart, history.failures, rng), detail)


def _drop_before(times: deque[float], limit: float) -> None:
    while times and times[0] < limit:
        times.popleft()
