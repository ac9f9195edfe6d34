"""Watching a daemon that runs: for readiness, then for liveness and its limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from neo_daemons.definitions import AnyProbe, LogProbe
from neo_daemons.references import expand_all

from .machine import Event
from .policy import Cause, may_kill
from .probes import Result

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
    """Until the daemon is ready, or has used up its grace."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    definition = daemon.definition
    probes, grace_s = definition.ready, definition.start_grace_s
    if daemon.adopted:
        # Its log says nothing new, and may have been rotated: health is what counts now.
        probes = (*(probe for probe in probes if not isinstance(probe, LogProbe)), *definition.live)
        grace_s = min(grace_s, max(ADOPTED_GRACE_S, grace_s - daemon.age_s))
    while True:
        result, _ = await _check(daemon, probes)
        if result.stranger:
            # It lost the race for its port, and may not even end for that: the next start looks again.
            daemon.condemn(Cause.PROBE, result.detail)
            return
        elapsed = loop.time() - start
        if result.ok:
            how = "adopted, and answers" if daemon.adopted else f"ready after {elapsed:.2f} s"
            daemon.handle(Event.PASS, how)
            return
        daemon.progress(result.detail)
        if elapsed > grace_s:
            daemon.condemn(Cause.PROBE, f"not ready after {grace_s:g} s: {result.detail}")
            return
        await asyncio.sleep(min(max(elapsed * POLL_SHARE, POLL_FLOOR_S), POLL_CEILING_S))


async def guard(daemon: Daemon) -> None:
    """While the daemon runs: probe its liveness, and hold it to its limits."""
    definition = daemon.definition
    interval_s = min((probe.interval_s for probe in definition.live), default=LIMITS_INTERVAL_S)
    failures = 0
    while True:
        await asyncio.sleep(interval_s)
        worn_out = _worn_out(daemon)
        if worn_out is not None and not daemon.held and not daemon.site.inhibited(daemon.name):
            daemon.condemn(Cause.RECYCLED, worn_out)
            return
        if not definition.live:
            continue
        result, probe = await _check(daemon, definition.live)
        if probe is None:
            failures = 0
            daemon.handle(Event.PASS, "answers again")
            continue
        failures += 1
        daemon.handle(Event.FAIL, result.detail)
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
        if result.ok != daemon.external_ready or daemon.detail is None:
            daemon.external_ready = result.ok
            daemon.note("external-ready" if result.ok else "external-not-ready", result.detail)
        daemon.progress(result.detail)
        await asyncio.sleep(interval_s)


async def _check(daemon: Daemon, probes: tuple[AnyProbe, ...]) -> tuple[Result, AnyProbe | None]:
    """The first result that is not ok, with its probe; else the last one."""
    assert daemon.target is not None
    result = Result(True, "no probe")
    failed: AnyProbe | None = None
    for probe in probes:
        result = await daemon.site.prober.check(expand_all(probe, daemon.values()), daemon.target)
        if not result.ok:
            failed = probe
            break
    daemon.remember(result)
    return result, failed


def _worn_out(daemon: Daemon) -> str | None:
    definition, age_s, main = daemon.definition, daemon.age_s, daemon.tree.main
    if definition.max_runtime_s is not None and age_s > definition.max_runtime_s:
        return f"recycled: it has run for {age_s:.0f} s, and max_runtime_s is {definition.max_runtime_s:g}"
    if definition.max_rss_bytes is not None and main is not None:
        usage = daemon.site.platform.usage([main.pid]).get(main.pid)
        if usage is not None and usage.rss_bytes > definition.max_rss_bytes:
            return f"recycled: it uses {usage.rss_bytes} bytes, and max_rss_bytes is {definition.max_rss_bytes}"
    return None
