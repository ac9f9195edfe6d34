"""Waiting for the outcome of an order."""

from __future__ import annotations

import asyncio

from neo_daemons.supervision.daemon import Daemon
from neo_daemons.supervision.machine import SETTLING, State
from neo_daemons.supervision.supervisor import Supervisor

PATIENT_FAILURES = 2
"""A daemon that has failed this often in a row is reported as failing to those who wait for it, so that they need not
wait through the whole backoff."""


def settled(daemon: Daemon) -> bool:
    """Whether it is ready, or will not be without somebody's help, or keeps failing."""
    if daemon.dropped:
        return True
    if daemon.waiting_for is not None:
        other = daemon.site.daemons.get(daemon.waiting_for)
        return other is not None and not other.ready and settled(other)
    if daemon.state is State.BACKOFF:
        return daemon.history.failures >= PATIENT_FAILURES
    return daemon.state not in SETTLING or daemon.overdue


async def wait_for_outcome(supervisor: Supervisor, name: str, wait_s: float) -> None:
    """Until a daemon, or what a reload has put in its place, has settled, or `wait_s` seconds have passed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while (left_s := deadline - loop.time()) > 0:
        daemon = supervisor.daemons.get(name)
        if daemon is None or (name not in supervisor.changing and settled(daemon)):
            return
        await supervisor.site.changed.wait(left_s)
