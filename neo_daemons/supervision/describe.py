"""Describe a daemon: its status, the log lines that explain it, and whether it has an outcome."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final

from neo_daemons.status import Cause, DaemonStatus, Explanation, JournalEntry

from . import log_lines
from .daemon import SupervisedDaemon
from .demand import Demand
from .logs import LOST
from .machine import MET, SETTLING, State
from .past import Span

PATIENT_FAILURES = 2
"""After this many consecutive failures a daemon counts as failing, so that clients need not wait through the whole
backoff."""
EXPLAINED_LINES = 20
IDLE = "idle"
"""The public name of the state of a daemon on demand that nobody needs. For the lifecycle, it is stopped."""

NOTHING: Final[Mapping[str, str]] = {}
"""The variables of the many daemons without any: a new object for each would wake the garbage collector."""

Daemons = Mapping[str, SupervisedDaemon]


def is_settled(daemon: SupervisedDaemon, daemons: Daemons, changing: Collection[str] = ()) -> bool:
    """Whether a daemon has an outcome: it is ready, or needs an operator, or keeps failing.

    Args:
        daemons: all daemons of the supervisor.
        changing: names of daemons that a reload is about to stop or replace.
    """
    if daemon.dropped:
        return True
    situation = daemon.situation
    if daemon.name in changing:
        return False
    if situation.waiting_for is not None:
        other = daemons.get(situation.waiting_for)
        return other is not None and not other.ready and is_settled(other, daemons, changing)
    if daemon.state is State.EXTERNAL:
        return situation.detail is not None  # it has been asked
    if daemon.state is State.BACKOFF:
        return daemon.past.history.failures >= PATIENT_FAILURES
    return daemon.state not in SETTLING or situation.overdue


def is_missing(daemon: SupervisedDaemon, daemons: Daemons) -> bool:
    """Return whether a daemon does not run because it, or one that it waits for, is not installed."""
    situation = daemon.situation
    if situation.waiting_for is not None:
        other = daemons.get(situation.waiting_for)
        return other is not None and is_missing(other, daemons)
    return situation.missing and daemon.state is State.UNAVAILABLE


def is_idle(daemon: SupervisedDaemon) -> bool:
    """Whether a daemon on demand is down because nobody needs it, not by an order or its restart rule."""
    on_demand = daemon.state is State.STOPPED and daemon.definition.start == "on-demand"
    return on_demand and daemon.definition.enabled and daemon.situation.cause in (None, Cause.IDLE)


def status_of(
    daemon: SupervisedDaemon, daemons: Daemons, demand: Demand, changing: Collection[str] = ()
) -> DaemonStatus:
    """Return the status of a daemon, without measuring anything: with what it used as last measured."""
    # Asked of all daemons at once, so it takes no step that most of them do not need.
    slot, run, situation, past, launch = daemon.slot, daemon.run, daemon.situation, daemon.past, daemon.launch
    state, definition, log = slot.state, slot.definition, slot.log
    reading = run.meter.reading(time.monotonic()) if run is not None else None
    return DaemonStatus(
        name=daemon.name,
        state=IDLE if is_idle(daemon) else state.public,
        ready=state in MET or (state is State.EXTERNAL and daemon.ready),
        settled=(state is State.READY and not changing) or is_settled(daemon, daemons, changing),
        pid=run.process.pid if run is not None else None,
        url=slot.url if definition.external or definition.ports or definition.url is not None else None,
        ports=slot.ports.numbers,
        restarts=slot.restarts,
        uptime_s=round(run.age_s, 3) if run is not None else None,
        cpu_percent=reading.cpu_percent if reading is not None else None,
        rss_bytes=reading.rss_bytes if reading is not None else None,
        log_path=str(log.path),
        data_dir=definition.data_dir,
        user=definition.user,
        groups=definition.groups,
        last_exit=past.last_exit,
        detail=situation.detail,
        remedy=situation.remedy,
        note=_note(daemon) if log.lost or (launch is not None and launch.note) else None,
        held=daemon.name in slot.context.holds,
        waiting_for=situation.waiting_for,
        requires=definition.requires,
        cascades=definition.cascades,
        enabled=definition.enabled,
        adopted=run is not None and run.adopted,
        version=launch.version if launch is not None else None,
        env=slot.exports() if definition.exports else NOTHING,
        ready_after_s=past.ready_after_s,
        after=definition.after,
        missing=state is not State.READY and is_missing(daemon, daemons),
        holders=demand.holders(daemon.name),
        idle_stop_at=demand.stop_at(daemon.name),
    )


def _note(daemon: SupervisedDaemon) -> str | None:
    launch, log = daemon.launch, daemon.slot.log
    notes = [launch.note] if launch is not None and launch.note else []
    if log.lost:
        notes.append(f"{log.path} {LOST}; restart the daemon to get a new log")
    return "; ".join(notes) or None


def relevant_lines(daemon: SupervisedDaemon, count: int) -> tuple[list[str], int | None]:
    """Return the last log lines of the run that explains the state, without the requests of our probes, and the pid
    of that run if it is over. It is the current run while that is up or has not failed yet, else the previous one."""
    slot, run, past, state = daemon.slot, daemon.run, daemon.past, daemon.state
    span = Span(None, run.log_start if run is not None else daemon.attempt_start, slot.log.end)
    up = run is not None and state is not State.RUNNING
    first_try = state in (State.STARTING, State.RUNNING) and not past.history.failures
    if past.ended is not None and not (up or first_try or state is State.EXTERNAL):
        span = past.ended
    return log_lines.lines(slot, span, count), span.pid


def explain(daemon: SupervisedDaemon, status: DaemonStatus, events: Collection[JournalEntry]) -> Explanation:
    """Explain the current state of a daemon."""
    slot, run = daemon.slot, daemon.run
    platform, host = slot.context.platform, daemon.definition.host
    holders = {}
    for port in slot.ports.numbers.values():
        holder = platform.port_holder(port, host)
        if holder is not None:
            ours = run is not None and holder.pid == run.process.pid
            holders[str(port)] = "this daemon" if ours else str(holder)
    lines, log_pid = relevant_lines(daemon, EXPLAINED_LINES)
    return Explanation(
        daemon=status,
        since=daemon.situation.since,
        next_try_s=daemon.delay.remaining_s,
        first_cause=daemon.past.history.first_cause,
        failures=daemon.past.history.failures,
        port_holders=holders,
        probes=tuple(f"{_clock(at)} {r.answer}: {r.detail}" for at, r in daemon.watcher.results),
        events=tuple(events),
        log_tail=tuple(lines),
        log_pid=log_pid,
    )


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
