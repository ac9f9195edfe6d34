"""What operators and clients have asked for, and what may therefore happen to a daemon."""

from __future__ import annotations

from collections.abc import Sequence

from neo_daemons.definitions import Definition
from neo_daemons.supervision.machine import Event, State
from neo_daemons.supervision.supervisor import Supervisor


class Expectations:
    """Written by whatever gives an order, read by the judges."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self._definitions = definitions
        self._licensed: dict[str, float] = {}
        """Daemon → until when it may be stopped on request."""
        self.down: set[str] = set()
        """Daemons that an operator has stopped."""
        self.held: set[str] = set()
        self.starts: dict[str, list[float]] = {}
        """Daemon → when it was started, since it was last asked for."""
        self.held_saved = True
        """Whether the disk was able to take the holds."""

    def license(self, name: str, until: float) -> None:
        """Allow a stop of a daemon until then."""
        self._licensed[name] = max(until, self._licensed.get(name, until))

    def may_stop(self, name: str, now: float) -> bool:
        return now <= self._licensed.get(name, -1.0)

    def forgive_starts(self, name: str | None = None) -> None:
        """Count the starts of a daemon (None: of all) from the beginning, as the core does after a request."""
        if name is None:
            self.starts.clear()
        else:
            self.starts.pop(name, None)

    def off(self) -> set[str]:
        """Daemons that need not be up: those that are stopped or held, and those that require them."""
        off = self.down | self.held
        for definition in self._definitions:  # each after those that it requires
            if set(definition.requires) & off:
                off.add(definition.name)
        return off

    def accepted(self, made: Supervisor, name: str, event: Event, *, saved: bool) -> None:
        """Note what an operator wants by an accepted order. `saved`: whether the disk takes it."""
        match event:
            case Event.STOP:
                self.down.add(name)
            case Event.START | Event.RESTART:
                self.down.discard(name)
                for definition in self._definitions:
                    if definition.name == name:
                        self.down -= set(definition.requires)
            case Event.RELEASE:
                # It starts what the hold kept down, not what was also stopped.
                if made.daemons[name].state not in (State.STOPPED, State.STOPPING):
                    self.down.discard(name)
        # The core decides what a hold means in each state; the invariant is that it survives.
        held = held_by(made)
        if held != self.held:
            self.held, self.held_saved = held, saved


def held_by(made: Supervisor) -> set[str]:
    """Daemons on hold, as the supervisor sees it."""
    return {daemon.name for daemon in made.daemons.values() if daemon.held}
