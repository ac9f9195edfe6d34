"""Watch a run for readiness, then for liveness and its limits; observe an external daemon.

The results go to a `Watcher`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from neo_daemons.definitions import AnyProbe, LogProbe
from neo_daemons.references import UnknownReference, expand_all
from neo_daemons.status import Cause

from . import log_lines
from .policy import times
from .probes import Answer, Result, Target
from .run import Run, make_target
from .slot import Slot
from .watcher import Watcher

POLL_SHARE = 0.015
"""Readiness is probed again after this share of the time elapsed so far, so that detection adds less than 2 % to any
boot."""
POLL_FLOOR_S, POLL_CEILING_S = 0.01, 1.0
ADOPTED_GRACE_S = 30.0
"""An adopted daemon must answer within this time, or the rest of its start grace period if that is longer. Otherwise it
is restarted."""
LINE_S = 1.0
"""How often the last line of a daemon that runs once is shown."""
LIMITS_INTERVAL_S = 10.0
"""Interval at which max_runtime_s and max_rss_bytes are checked without a liveness probe."""


def watch(run: Run, watcher: Watcher, *, has_come_up: bool) -> Coroutine[Any, Any, None] | None:
    """Return the work of watching a run; None if there is nothing to watch.

    Args:
        has_come_up: it was ready before.
    """
    definition = run.slot.definition
    if not has_come_up:
        return (await_end if definition.oneshot else await_ready)(run, watcher)
    if definition.live or definition.max_runtime_s or definition.max_rss_bytes:
        return guard(run, watcher)
    return None


async def await_ready(run: Run, watcher: Watcher) -> None:
    """Probe the run until it is ready or its grace period is over. Unknown results decide nothing."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    definition = run.slot.definition
    probes, grace_s = definition.ready, definition.start_grace_s
    if run.adopted:
        # Only its health counts now. It has written its log line long ago, and the log may have been rotated.
        over = run.age_s > grace_s
        probes = (*(probe for probe in probes if not (over and isinstance(probe, LogProbe))), *definition.live)
        grace_s = min(grace_s, max(ADOPTED_GRACE_S, grace_s - run.age_s))
    while True:
        result, probe = await _check(run.slot, run.target, probes, watcher)
        if result.stranger:
            # It lost the race for its port, and may not even exit because of it. The next start checks again.
            watcher.condemn(Cause.PROBE, result.detail)
            return
        elapsed = loop.time() - start
        unwritten = run.adopted and elapsed > grace_s and isinstance(probe, LogProbe)
        if unwritten:
            probes = tuple(probe for probe in probes if not isinstance(probe, LogProbe))
            continue
        if result.ok:
            how = "adopted; its probes pass" if run.adopted else f"ready after {elapsed:.2f} s"
            if not definition.ready:
                how = f"{'adopted' if run.adopted else 'started'} (no readiness probe)"
            watcher.passed(how)
            return
        watcher.situation.progress(_shown(result))
        if elapsed > grace_s and result.answer is Answer.FAILED:
            watcher.condemn(Cause.PROBE, f"not ready after {grace_s:g} s: {result.detail}")
            return
        watcher.situation.set_overdue(elapsed > grace_s)
        await asyncio.sleep(min(max(elapsed * POLL_SHARE, POLL_FLOOR_S), POLL_CEILING_S))


async def await_end(run: Run, watcher: Watcher) -> None:
    """Show the last line that a run has written, and end it when it has run for too long. Its end is not seen here."""
    slot = run.slot
    limit_s = slot.definition.max_runtime_s
    while limit_s is None or run.age_s <= limit_s:
        await asyncio.sleep(LINE_S if limit_s is None else min(LINE_S, max(limit_s - run.age_s, 0.0) + POLL_FLOOR_S))
        if slot.log.end > run.log_start:
            watcher.situation.progress(log_lines.last_line(slot, run.span))
    watcher.condemn(Cause.PROBE, f"it has not ended within max_runtime_s = {limit_s:g}")


async def guard(run: Run, watcher: Watcher) -> None:
    """Probe the liveness of a run and enforce its limits, as long as it lasts."""
    definition = run.slot.definition
    interval_s = min((probe.interval_s for probe in definition.live), default=LIMITS_INTERVAL_S)
    failures = 0
    unknown = False
    known: str | None = None  # the detail shown before the result became unknown
    while True:
        await asyncio.sleep(interval_s)
        worn_out = _worn_out(run)
        if worn_out is not None and watcher.may_recycle():
            watcher.condemn(Cause.RECYCLED, worn_out)
            return
        if not definition.live:
            continue
        result, probe = await _check(run.slot, run.target, definition.live, watcher)
        if result.answer is Answer.UNKNOWN:
            if not unknown:
                unknown, known = True, watcher.situation.detail
            watcher.situation.progress(_shown(result))  # the state does not change
            continue
        if unknown:
            unknown = False
            watcher.situation.progress(known)
        if probe is None:
            failures = 0
            watcher.passed("answers again")
            continue
        failures += 1
        watcher.failed(result.detail)
        if failures < probe.failures:
            watcher.situation.progress(f"{result.detail} ({failures} of {probe.failures})")
        elif watcher.may_kill():
            watcher.condemn(Cause.PROBE, f"{_failures(failures)}: {result.detail}")
            return
        else:
            kills = definition.restart.kills
            why = f"its probes have already ended it {times(kills)} within an hour" if kills else "restart.kills = 0"
            watcher.situation.progress(f"{result.detail}; not restarted: {why}")


def _failures(number: int) -> str:
    return f"{number} consecutive failures" if number > 1 else "1 failure"


async def observe(slot: Slot, watcher: Watcher) -> None:
    """Probe an external daemon and report, without acting on it."""
    target = make_target(slot, None, 0)
    target.external = True
    probes = slot.definition.live or slot.definition.ready
    interval_s = min((probe.interval_s for probe in probes), default=LIMITS_INTERVAL_S)
    while True:
        result, _ = await _check(slot, target, probes, watcher)
        if result.answer is not Answer.UNKNOWN:
            watcher.observed(result.detail, ready=result.ok)
        watcher.situation.progress(_shown(result))
        await asyncio.sleep(interval_s)


def _shown(result: Result) -> str:
    return f"unknown: {result.detail}" if result.answer is Answer.UNKNOWN else result.detail


async def _check(
    slot: Slot, target: Target, probes: tuple[AnyProbe, ...], watcher: Watcher
) -> tuple[Result, AnyProbe | None]:
    """Return the first failure with its probe; else an unknown result if any; else the last result."""
    begun_at = time.monotonic()
    result = Result(Answer.OK, "no probe configured")
    failed: AnyProbe | None = None
    for probe in probes:
        # After a failure only the log is checked: what is written now may be gone by the time the others pass.
        if result.answer is Answer.FAILED and not isinstance(probe, LogProbe):
            continue
        try:
            expanded = expand_all(probe, slot.values())
        except (UnknownReference, KeyError) as error:  # another daemon is no longer configured, or has no port yet
            found = Result(Answer.UNKNOWN, str(error))
        else:
            found = await slot.context.prober.check(expanded, target)
        if _WEIGHT[found.answer] > _WEIGHT[result.answer] or result.ok:
            result = found
            failed = probe if found.answer is Answer.FAILED else None
    watcher.remember(result, target, time.monotonic() - begun_at if probes else None)
    return result, failed


_WEIGHT = {Answer.OK: 0, Answer.UNKNOWN: 1, Answer.FAILED: 2}


def _worn_out(run: Run) -> str | None:
    definition, age_s, pid = run.slot.definition, run.age_s, run.process.pid
    if definition.max_runtime_s is not None and age_s > definition.max_runtime_s:
        return f"recycled: it has run for {age_s:.0f} s, and max_runtime_s is {definition.max_runtime_s:g}"
    if definition.max_rss_bytes is not None:
        usage = run.slot.context.platform.usage([pid]).get(pid)
        if usage is not None and usage.rss_bytes > definition.max_rss_bytes:
            return f"recycled: it uses {usage.rss_bytes} bytes, and max_rss_bytes is {definition.max_rss_bytes}"
    return None
