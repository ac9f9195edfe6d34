"""Wait, before a daemon starts, for those that it requires or starts after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from neo_daemons.definitions import Definition, Launch

from .launch import done_since
from .machine import State
from .situation import Situation
from .slot import Slot

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


async def wait_to_start(slot: Slot, launch: Launch, situation: Situation, others: Mapping[str, Peer]) -> str | None:
    """Wait until a daemon may start. If it runs once, and has done so, return since when; it waits for nobody then."""
    done = done_since(slot, launch) if not slot.definition.cascades else None
    if done is None:
        slot.context.start_below(slot.name)
        await wait_for_others(slot.definition, situation, others)
        done = done_since(slot, launch)
    return done


async def wait_for_others(definition: Definition, situation: Situation, others: Mapping[str, Peer]) -> None:
    """Wait until all daemons that one requires are ready, and those that it starts after have started.

    Args:
        situation: the situation of the waiting daemon.
        others: all daemons of the supervisor, by name.
    """
    try:
        while (found := _unmet(definition, others)) is not None:
            other, why = found
            situation.waiting_for = other.name
            situation.progress(f"waiting for {other.name} (in `{why}`; its state: {_in_words(other)})")
            await other.situation.change()
            situation.notify()  # whether waiting for us makes sense depends on the other
    finally:
        situation.waiting_for = None
    situation.progress(None)


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
