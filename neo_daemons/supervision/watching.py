"""Watching a daemon that runs: for readiness, then for liveness and its limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from neo_daemons.definitions import AnyProbe, LogProbe
from neo_daemons.references import UnknownReference, expand_all
from neo_daemons.status import Cause, EventName

from .machine import Event
from .policy import may_kill
from .probes import Answer, Result

if TYPE_CHECKING:
    from .daemon import Daemon

POLL_SHARE = 0.015
"""Readiness is asked again after this share of the time it has taken so far: detection costs less than 2 % of any
boot, however long."""
POLL_FLOOR_S, POLL_CEILING_S = 0.01, 1.0
ADOPTED_GRACE_S = 30.0
"""An adopted daemon that has had its time to start must answer within this, or is started anew. One that is younger
than its grace has the rest of that, if it is more."""
LIMITS_INTERVAL_S = 10.0
"""How often max_runtime_s and max_rss_bytes are looked at where no liveness probe sets a pace."""


async def await_ready(daemon: Daemon) -> None:
    """Until the daemon is ready, or has used up its grace. What cannot be told makes it neither."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    definition = daemon.definition
    probes, grace_s = definition.ready, definition.start_grace_s
    if daemon.adopted:
        # Health is what counts now. A line that it was to write it has written in its time, or its log was rotated.
        over = daemon.age_s > grace_s
        probes = (*(probe for probe in probes if not (over and isinstance(probe, LogProbe))), *definition.live)
        grace_s = min(grace_s, max(ADOPTED_GRACE_S, grace_s - daemon.age_s))
    while True:
        result, probe = await _check(daemon, probes)
        if result.stranger:
            # It lost the race for its port, and may not even end for that: the next start looks again.
            daemon.condemn(Cause.PROBE, result.detail)
            return
        elapsed = loop.time() - start
        unwritten = daemon.adopted and elapsed > grace_s and isinstance(probe, LogProbe)
        if unwritten:
            probes = tuple(probe for probe in probes if not isinstance(probe, LogProbe))
            continue
        if result.ok:
            how = "adopted, and answers" if daemon.adopted else f"ready after {elapsed:.2f} s"
            daemon.handle(Event.PASS, how)
            return
        daemon.progress(_told(result))
        if elapsed > grace_s and result.answer is Answer.FAILED:
            daemon.condemn(Cause.PROBE, f"not ready after {grace_s:g} s: {result.detail}")
            return
        if daemon.overdue != (elapsed > grace_s):
            daemon.overdue = not daemon.overdue
            daemon.site.changed.notify()  # whoever waits for it need not any longer
        await asyncio.sleep(min(max(elapsed * POLL_SHARE, POLL_FLOOR_S), POLL_CEILING_S))


async def guard(daemon: Daemon) -> None:
    """While the daemon runs: probe its liveness, and hold it to its limits."""
    definition = daemon.definition
    interval_s = min((probe.interval_s for probe in definition.live), default=LIMITS_INTERVAL_S)
    failures = 0
    untold = False
    known: str | None = None  # what was shown before it could not be told, if that was anything
    while True:
        await asyncio.sleep(interval_s)
        worn_out = _worn_out(daemon)
        if worn_out is not None and not daemon.held and not daemon.site.inhibited(daemon.name):
            daemon.condemn(Cause.RECYCLED, worn_out)
            return
        if not definition.live:
            continue
        result, probe = await _check(daemon, definition.live)
        if result.answer is Answer.UNKNOWN:
            if not untold:
                untold, known = True, daemon.detail
            daemon.progress(_told(result))  # and it stays what it was
            continue
        if untold:
            untold = False
            daemon.progress(known)
        if probe is None:
            failures = 0
            daemon.handle(Event.PASS, "answers again")
            continue
        failures += 1
        daemon.handle(Event.FAIL, result.detail, cause=Cause.PROBE)
        if failures < probe.failures:
            daemon.progress(f"{result.detail} ({failures} of {probe.failures})")
        elif may_kill(definition.restart, daemon.history, asyncio.get_running_loop().time()):
            daemon.condemn(Cause.PROBE, f"{failures} failures in a row: {result.detail}")
            return
        else:
            kills = definition.restart.kills
            daemon.progress(f"{result.detail}; left alone: its probes ended it {kills} times within the hour")


async def observe(daemon: Daemon) -> None:
    """An external daemon: look, report, and do nothing."""
    probes = daemon.definition.live or daemon.definition.ready
    interval_s = min((probe.interval_s for probe in probes), default=LIMITS_INTERVAL_S)
    while True:
        result, _ = await _check(daemon, probes)
        known = result.answer is not Answer.UNKNOWN
        if known and (result.ok != daemon.external_ready or daemon.detail is None):
            daemon.external_ready = result.ok
            daemon.note(EventName.EXTERNAL_READY if result.ok else EventName.EXTERNAL_NOT_READY, result.detail)
        daemon.progress(_told(result))
        await asyncio.sleep(interval_s)


def _told(result: Result) -> str:
    return f"cannot be told: {result.detail}" if result.answer is Answer.UNKNOWN else result.detail


async def _check(daemon: Daemon, probes: tuple[AnyProbe, ...]) -> tuple[Result, AnyProbe | None]:
    """The first failure, with its probe; without one what could not be told; else the last result."""
    assert daemon.target is not None
    result = Result(Answer.OK, "no probe")
    failed: AnyProbe | None = None
    for probe in probes:
        # After a failure only the log is looked at: what is written now may be gone by the time the others pass.
        if result.answer is Answer.FAILED and not isinstance(probe, LogProbe):
            continue
        try:
            expanded = expand_all(probe, daemon.values())
        except (UnknownReference, KeyError) as error:  # another daemon is not configured any more, or has no port yet
            found = Result(Answer.UNKNOWN, str(error))
        else:
            found = await daemon.site.prober.check(expanded, daemon.target)
        if _WEIGHT[found.answer] > _WEIGHT[result.answer] or result.ok:
            result = found
            failed = probe if found.answer is Answer.FAILED else None
    daemon.remember(result)
    return result, failed


_WEIGHT = {Answer.OK: 0, Answer.UNKNOWN: 1, Answer.FAILED: 2}


def _worn_out(daemon: Daemon) -> str | None:
    definition, age_s, main = daemon.definition, daemon.age_s, daemon.tree.main
    if definition.max_runtime_s is not None and age_s > definition.max_runtime_s:
        return f"recycled: it has run for {age_s:.0f} s, and max_runtime_s is {definition.max_runtime_s:g}"
    if definition.max_rss_bytes is not None and main is not None:
        usage = daemon.site.platform.usage([main.pid]).get(main.pid)
        if usage is not None and usage.rss_bytes > definition.max_rss_bytes:
            return f"recycled: it uses {usage.rss_bytes} bytes, and max_rss_bytes is {definition.max_rss_bytes}"
    return None
