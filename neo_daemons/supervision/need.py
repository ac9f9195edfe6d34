"""Start a daemon because somebody needs it, and wait for the outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from neo_daemons.status import Cause, DaemonStatus, Holder, Needed
from neo_daemons.urls import redacted

from .daemon import SupervisedDaemon
from .demand import Demand, stands_on
from .describe import PATIENT_FAILURES, relevant_lines
from .fleet import Fleet
from .instances import Instances
from .machine import SETTLING, Event, Refused, State

SHOWN_LINES = 30
"""The number of log lines shown for a failed daemon."""
DEPENDANT_TRIES = 3
"""How often a run tries a daemon that depends on others: it may have failed because of them."""


class Needs:
    """Carries out needs.

    Args:
        status_of: describes a daemon.
        find: returns the daemon of a name, or raises `UnknownDaemon`.
        gives_up: stop a daemon that has failed, and do not try it again until somebody orders it: many tests may need
            it, and each would wait for its failure. Otherwise its restart rule applies.
    """

    def __init__(
        self,
        fleet: Fleet,
        demand: Demand,
        status_of: Callable[[SupervisedDaemon], DaemonStatus],
        find: Callable[[str], SupervisedDaemon],
        *,
        gives_up: bool,
    ) -> None:
        self._fleet = fleet
        self._demand = demand
        self._status_of = status_of
        self._find = find
        self._gives_up = gives_up
        self.instances = Instances(fleet, demand, find)
        self._failed: dict[str, Needed] = {}
        """Daemons that were given up and have not been ready since."""
        self._tries: dict[str, int] = {}
        """How often each of these failed to start."""

    async def need(self, name: str, wait_s: float, holder: str = "need") -> Needed:
        """Start a daemon unless it is running, and wait up to `wait_s` seconds until it is ready or will not be.

        Raises:
            UnknownDaemon: it is not configured.
            Refused: the supervisor is stopping.
        """
        self._find(name)
        if self._fleet.context.is_stopping():
            raise Refused("the supervisor is stopping")
        lease = self._demand.passing(name, Holder(name=holder, pid=None, since=time.time()))
        try:
            return await self._need(name, wait_s)
        finally:
            self._demand.give_up(lease)

    async def _need(self, name: str, wait_s: float) -> Needed:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        begun: SupervisedDaemon | None = None
        self._try_again(self._find(name))
        while True:
            daemon = self._find(name)
            if name not in self._fleet.changing:
                if name in self._failed and not daemon.ready:
                    return self._failed[name]
                if daemon is not begun:
                    self._demand.start(daemon)
                    begun = daemon
                why = None if daemon.ready else self._why_not(daemon)
                if why is not None:
                    return self._fail(daemon, why)
            left_s = deadline - loop.time()
            if daemon.ready or left_s <= 0:
                return Needed(daemon=self._status_of(daemon))
            await daemon.situation.change(left_s)

    def forget(self, name: str) -> None:
        """Let the past failures of a daemon no longer count."""
        self._failed.pop(name, None)
        self._tries.pop(name, None)

    def forget_all(self) -> None:
        """Let past failures no longer count."""
        self._failed.clear()
        self._tries.clear()

    def _try_again(self, daemon: SupervisedDaemon) -> None:
        """Retry a daemon that was given up if those that it depends on may have been the cause."""
        built_on = stands_on(daemon.definition, self._fleet.daemons)
        if daemon.name not in self._failed or daemon.ready or self._tries[daemon.name] >= DEPENDANT_TRIES:
            return
        if not built_on:
            return
        del self._failed[daemon.name]
        for name in (daemon.name, *built_on):
            other = self._fleet.daemons.get(name)
            if other is not None and other.state in (State.BACKOFF, State.PARKED, State.UNAVAILABLE):
                self._stop(other)

    def _stop(self, daemon: SupervisedDaemon) -> None:
        if daemon.name not in self._fleet.changing:
            daemon.order(Event.STOP, "it has failed", Cause.OPERATOR)

    def _fail(self, daemon: SupervisedDaemon, why: str) -> Needed:
        lines, _ = relevant_lines(daemon, SHOWN_LINES)
        failed = Needed(daemon=self._status_of(daemon), failure=why, log_tail=tuple(lines))
        if self._gives_up and daemon.state is not State.EXTERNAL:
            self._failed[daemon.name] = failed
            self._tries[daemon.name] = self._tries.get(daemon.name, 0) + 1
            self._give_up(daemon)
        return failed

    def _give_up(self, daemon: SupervisedDaemon) -> None:
        """Stop trying to start a failed daemon and those that it waits for."""
        waits_for = self._fleet.daemons.get(daemon.situation.waiting_for or "")
        if waits_for is not None:
            self._give_up(waits_for)
        if daemon.state in SETTLING or waits_for is not None:
            self._stop(daemon)

    def _why_not(self, daemon: SupervisedDaemon) -> str | None:
        """Return why a needed daemon will not become ready; None as long as it may."""
        if daemon.situation.waiting_for is not None:
            other = self._fleet.daemons.get(daemon.situation.waiting_for)
            why = self._why_not(other) if other is not None and not other.ready else None
            return f"it waits for {daemon.situation.waiting_for}, which failed: {why}" if why is not None else None
        # Nobody waits for a daemon that failed from the start: only for one that worked before, or that lost the race
        # for its port.
        patience = PATIENT_FAILURES if daemon.past.has_been_ready or daemon.past.lost_its_port else 1
        tried = daemon.past.failed_starts >= patience
        match daemon.state:
            case State.PARKED | State.UNAVAILABLE | State.HELD:
                remedy = self._status_of(daemon).remedy
                return f"{daemon.situation.detail or daemon.state.public}{f'; {remedy}' if remedy else ''}"
            case State.STOPPED:
                return daemon.situation.detail or "it is stopped"
            case State.RUNNING if daemon.situation.overdue:
                return daemon.situation.detail
            case State.BACKOFF if tried:
                return daemon.situation.detail or "it has failed"
            case State.STARTING | State.RUNNING if tried:
                return daemon.past.history.first_cause
            case State.EXTERNAL if daemon.situation.detail is not None and not daemon.ready:
                return f"{redacted(daemon.definition.external or '')} is not usable: {daemon.situation.detail}"
        return None
