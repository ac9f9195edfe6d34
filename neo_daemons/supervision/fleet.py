"""The daemons of one supervisor: add, start, and stop them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from neo_daemons.definitions import Definition
from neo_daemons.status import Cause, EventName

from .context import Context
from .daemon import SupervisedDaemon
from .leftovers import Leftovers
from .machine import Event, State
from .slot import Slot, Slots

UNKILLABLE_S = 60.0
"""A process that still runs this long after its grace period sleeps in the kernel or is held by a tracer."""


class Fleet:
    """The daemons of one supervisor.

    Args:
        leftovers: processes that must have stopped before anything starts.
    """

    def __init__(self, context: Context, leftovers: Leftovers) -> None:
        self.context = context
        self.daemons: dict[str, SupervisedDaemon] = {}
        """The daemons by name, in the order of their definitions."""
        self.changing: dict[str, bool] = {}
        """Daemons that a reload is stopping or replacing, which cannot be started meanwhile → whether an operator has
        ordered, or somebody needs, that they run afterwards."""
        self._leftovers = leftovers
        self._slots = Slots()

    @property
    def slots(self) -> list[Slot]:
        """The slots of all daemons."""
        return [daemon.slot for daemon in self.daemons.values()]

    def make_slot(self, definition: Definition) -> Slot:
        """Create a slot that is not yet known to the others."""
        return Slot(definition, self.context, self._slots)

    def add(self, definition: Definition) -> SupervisedDaemon:
        """Add a daemon, replacing one of the same name, and read the record that an earlier supervisor left."""
        slot = self.make_slot(definition)
        daemon = SupervisedDaemon(slot, self.daemons, self._leftovers)
        self.daemons[definition.name] = daemon
        self._slots.add(slot)
        slot.load()
        return daemon

    async def remove(self, name: str) -> None:
        """Remove a stopped daemon."""
        gone = self.daemons.pop(name)
        await gone.detach(finish=is_down(gone))
        self._slots.remove(gone.slot)
        self.context.holds.forget(name)

    def begin(
        self, daemon: SupervisedDaemon, *, by_hand: bool = False, resume: bool = False, waits: bool = False
    ) -> None:
        """Start a daemon, or observe an external one, unless it is disabled in the configuration, or on demand.

        Args:
            by_hand: start it in any case.
            resume: it was running, so start it even if it is on demand.
            waits: leave it until somebody starts it, unless it was running or is on demand.
        """
        if not daemon.definition.enabled and not by_hand:
            daemon.situation.detail = "not enabled in the configuration"
        elif daemon.definition.external:
            daemon.observe()
        elif daemon.definition.is_template:
            daemon.situation.detail = "one process for each client"
        elif waits and not resume and daemon.definition.start == "always":
            daemon.situation.detail, daemon.situation.cause = "left out when the supervisor was started", Cause.OPERATOR
        elif by_hand or resume or daemon.definition.start == "always":
            daemon.order(Event.START)

    def sort(self, names: list[str]) -> None:
        """Put the daemons into the order of these names; others, which were added meanwhile, come last."""
        ordered = {name: self.daemons[name] for name in names if name in self.daemons}
        for name in ordered:
            del self.daemons[name]
        added = dict(self.daemons)
        self.daemons.clear()
        self.daemons.update(ordered | added)


def is_down(daemon: SupervisedDaemon) -> bool:
    """Whether nothing of it runs that we have to stop."""
    return daemon.state in (State.STOPPED, State.HELD, State.EXTERNAL)


async def stop_in_order(daemons: list[SupervisedDaemon]) -> None:
    """Stop daemons, each after its dependants. Returns when they are down or cannot be stopped."""
    given_up: set[str] = set()
    dependants: dict[str, list[SupervisedDaemon]] = {}
    for daemon in daemons:
        for name in {*daemon.definition.after, *daemon.definition.requires} - {daemon.name}:
            dependants.setdefault(name, []).append(daemon)
    await asyncio.gather(*(_stop_after(daemon, dependants.get(daemon.name, ()), given_up) for daemon in daemons))


async def _stop_after(daemon: SupervisedDaemon, dependants: Iterable[SupervisedDaemon], given_up: set[str]) -> None:
    for other in dependants:
        await other.wait_for(lambda other: is_down(other) or other.name in given_up)
    await daemon.slot.context.turns.wait()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + daemon.definition.stop.grace_s + UNKILLABLE_S
    while not is_down(daemon):
        # Repeatedly: an operator may have ordered a start meanwhile.
        if daemon.state is not State.STOPPING:
            daemon.order(Event.STOP, "stopped by the supervisor", Cause.SUPERVISOR)
            if is_down(daemon):
                return
        if loop.time() > deadline:
            daemon.slot.note(EventName.NOT_STOPPED, "it cannot be stopped; leaving it to the next supervisor")
            given_up.add(daemon.name)
            daemon.situation.notify()
            return
        await daemon.situation.change(deadline - loop.time())
