"""Wait, before a daemon starts, for those that it requires or starts after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from neo_daemons.definitions import Definition, Launch
from neo_daemons.status import Cause

from .launch import done_since
from .machine import State
from .situation import Situation
from .slot import Slot

AWAY = frozenset({State.STOPPED, State.PARKED, State.HELD, State.UNAVAILABLE})
"""States that a daemon leaves by an order, or in a long time, but not as the next step of its start."""
FAILED = frozenset(
    {State.STOPPED, State.BACKOFF, State.PARKED, State.HELD, State.UNAVAILABLE, State.DEGRADED, State.EXTERNAL}
)
"""States whose detail says why a daemon is not ready."""


class Peer(Protocol):
    """Another daemon of the same supervisor."""

    name: str
    situation: Situation

    @property
    def definition(self) -> Definition:
        """The definition of the daemon."""

    @property
    def state(self) -> State:
        """The state in its lifecycle."""

    @property
    def ready(self) -> bool:
        """Whether it is usable now."""


class CannotCome(Exception):
    """A daemon cannot start, because one that it requires will not be ready; ``str()`` says which and why."""

    def __init__(self, other: Peer, remedy: str | None) -> None:
        self.name = other.name
        self.remedy = remedy
        super().__init__(f"requires {other.name}, which is {_in_words(other)}")


async def wait_to_start(slot: Slot, launch: Launch, situation: Situation, others: Mapping[str, Peer]) -> str | None:
    """Wait until a daemon may start. If it runs once, and has done so, return that in words; it waits for nobody then.

    Raises:
        CannotCome: one that it requires will not be ready.
    """
    done = done_since(slot, launch) if not slot.definition.cascades else None
    if done is None:
        slot.context.start_below(slot.name)
        await wait_for_others(slot, situation, others)
        done = done_since(slot, launch)
    return done


async def wait_for_others(slot: Slot, situation: Situation, others: Mapping[str, Peer]) -> None:
    """Wait until all daemons that one requires are ready, and those that it starts after have started.

    Args:
        slot: of the waiting daemon, as is the situation.
        others: all daemons of the supervisor, by name.

    Raises:
        CannotCome: one that it requires will not be ready.
    """
    try:
        while (found := _unmet(slot.definition, others)) is not None:
            other, why = found
            if why == "requires" and _cannot_come(other):
                raise CannotCome(other, _remedy(other, slot))
            situation.waiting_for = other.name
            situation.progress(f"waiting for {other.name} (in `{why}`; its state: {_in_words(other)})")
            await other.situation.change()
            situation.notify()  # whether waiting for us makes sense depends on the other
    finally:
        situation.waiting_for = None
    situation.progress(None)


async def wait_for_a_chance(error: CannotCome, situation: Situation, others: Mapping[str, Peer]) -> None:
    """Wait, after `error`, until it is worthwhile to try the start again, or the daemon is in another state."""
    situation.waiting_for = error.name
    while situation.waiting_for == error.name:
        other = others.get(error.name)
        if other is None or not _cannot_come(other):
            return
        situation.progress(str(CannotCome(other, None)))
        await other.situation.change()
        situation.notify()


def _cannot_come(other: Peer) -> bool:
    """Return whether a required daemon will not be ready unless somebody does something, or in a long time."""
    if other.state is State.EXTERNAL:
        return not other.ready and other.situation.detail is not None  # it has been asked
    # What the supervisor itself has stopped, it is replacing, or it stops everything.
    return other.state in AWAY and other.situation.cause is not Cause.SUPERVISOR


def _remedy(other: Peer, slot: Slot) -> str | None:
    orders = {State.STOPPED: "start", State.HELD: "release"}
    if other.state in orders:
        return slot.context.state_dir.command(f"{orders[other.state]} {other.name}")
    return other.situation.remedy


def _in_words(other: Peer) -> str:
    """Return the state of a daemon, with the reason if it is not on its way: others do not start for that reason."""
    state, detail = other.state.public, other.situation.detail
    explained = other.state in FAILED or other.situation.waiting_for is not None
    return f"{state}: {detail}" if explained and detail else state


def _unmet(definition: Definition, others: Mapping[str, Peer]) -> tuple[Peer, str] | None:
    """Find a daemon that must be ready, or started, before this one, and why. What one that runs once requires must be
    ready, too: the one that is done no longer waits for it."""
    for name in definition.requires:
        other = others.get(name)
        if other is None:
            continue
        if not other.ready:
            return other, "requires"
        below = _unmet(other.definition, others) if other.definition.oneshot else None
        if below is not None and below[1] == "requires":
            return below
    for name in definition.after:
        other = others.get(name)
        if other is not None and other.state in (State.STARTING, State.RUNNING):
            return other, "after"
    return None
