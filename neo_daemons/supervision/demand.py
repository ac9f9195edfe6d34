"""Who needs which daemon. A daemon on demand is started when somebody needs it, and stopped when nobody has needed it
for a while."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from neo_daemons.definitions import Definition
from neo_daemons.status import Cause, Holder

from .daemon import SupervisedDaemon
from .fleet import Fleet, is_down
from .jobs import Timer
from .machine import Event, State

NOT_YET_S = 1.0
"""When to look again at an idle daemon that cannot be stopped now, because a reload is changing it."""


class Countdown:
    """The idle time of a daemon.

    Args:
        whole_s: how long it may be idle.
    """

    def __init__(self, whole_s: float, delay_s: float, callback: Callable[[], None]) -> None:
        self.whole_s = whole_s
        self.at = time.time() + delay_s
        self.timer = Timer()
        self.timer.start(delay_s, callback)


class Demand:
    """The leases on the daemons of one supervisor."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._holders: dict[str, dict[int, Holder]] = {}
        """Daemon → who needs it, by the number of the lease."""
        self.inhibitors: dict[int, str | None] = {}
        """Lease → the daemon that it keeps as it is, or (None) all: it is neither recycled nor stopped when idle."""
        self._passing = itertools.count(-1, -1)
        self._countdowns: dict[str, Countdown] = {}
        """Those of the daemons that nobody needs."""
        self._states: dict[str, State] = {}
        """The states in which daemons were last seen."""
        self.on_released: Callable[[str], None] = lambda name: None
        """Called with the name of a daemon that the holder of a lease no longer needs."""
        self._dependants: dict[str, list[str]] = {}
        """Daemon → those that stand on it. Only daemons on demand are in it."""
        fleet.context.changed.listeners.append(self._changed)
        self.look_again()

    # Leases

    def take(self, lease: int, holder: Holder, needs: Iterable[str]) -> None:
        """Start daemons, which are configured, and keep them until this lease is given up."""
        for name in needs:
            self._holders.setdefault(name, {})[lease] = holder
            if name in self._fleet.daemons:
                self.start(self._fleet.daemons[name])
            self._review(name)

    def inhibit(self, lease: int, name: str | None) -> None:
        """Keep a daemon, or (None) all, as it is until this lease is given up."""
        self.inhibitors[lease] = name
        self._review_all()

    def is_inhibited(self, name: str) -> bool:
        """Whether a client has asked that this daemon not be recycled."""
        return name in self.inhibitors.values() or None in self.inhibitors.values()

    def give_up(self, lease: int) -> None:
        """Give up a lease."""
        for name in [name for name, holders in self._holders.items() if holders.pop(lease, None) is not None]:
            if not self._holders[name]:
                del self._holders[name]
            self._review(name)
            self.on_released(name)
        if lease in self.inhibitors:
            del self.inhibitors[lease]
            self._review_all()

    def passing(self, name: str, holder: Holder) -> int:
        """Keep a daemon for a moment. Returns the lease to give up."""
        lease = next(self._passing)
        self._holders.setdefault(name, {})[lease] = holder
        self._review(name)
        return lease

    def holders(self, name: str) -> tuple[Holder, ...]:
        """Return who needs a daemon, the longest first: holders of leases, and daemons that stand on it."""
        if name not in self._holders and not self._dependants.get(name):
            return ()  # as most daemons
        leases = self._holders.get(name, {})
        dependants = [self._fleet.daemons[other] for other in self._standing_on(name)]
        return (
            *(holder for lease, holder in leases.items() if lease > 0),
            *(
                Holder(
                    name=f"daemon {other.name}",
                    pid=other.run.process.pid if other.run is not None else None,
                    since=other.situation.since,
                )
                for other in dependants
            ),
        )

    def stop_at(self, name: str) -> float | None:
        """Return when a daemon will be stopped unless somebody needs it; seconds since the epoch."""
        countdown = self._countdowns.get(name)
        return countdown.at if countdown is not None else None

    # What follows

    def start(self, daemon: SupervisedDaemon) -> None:
        """Start a daemon that is down, after those that it stands on; when a reload is changing it, afterwards."""
        fleet = self._fleet
        if fleet.context.is_stopping() or daemon.definition.is_template:
            return
        if daemon.name in fleet.changing:
            fleet.changing[daemon.name] = True
            return
        if daemon.state not in (State.STOPPED, State.STOPPING):
            return
        # What runs once may be done, and then it needs nobody.
        for name in stands_on(daemon.definition, fleet.daemons) if not daemon.definition.oneshot else ():
            if name in fleet.daemons:
                self.start(fleet.daemons[name])
        daemon.order(Event.START, "it is needed", Cause.OPERATOR)

    def start_below(self, name: str) -> None:
        """Start the daemons on demand that this one stands on."""
        for other in self._below(self._fleet.daemons[name]):
            if other in self._fleet.daemons:
                self.start(self._fleet.daemons[other])

    def _below(self, daemon: SupervisedDaemon) -> set[str]:
        """Return the daemons on demand that this one stands on."""
        return self._dependants.keys() & stands_on(daemon.definition, self._fleet.daemons)

    def look_again(self) -> None:
        """Take in definitions that were added, changed or removed."""
        daemons = self._fleet.daemons
        on_demand = {name for name, daemon in daemons.items() if daemon.definition.start == "on-demand"}
        self._dependants = {name: [] for name in on_demand}
        for daemon in daemons.values() if on_demand else ():
            for name in on_demand.intersection(stands_on(daemon.definition, daemons)) - {daemon.name}:
                self._dependants[name].append(daemon.name)
        for name, countdown in list(self._countdowns.items()):
            if name not in on_demand or countdown.whole_s != daemons[name].definition.idle_stop_s:
                self._forget(name)
        for daemon in daemons.values() if on_demand else ():
            self._changed(daemon.name)
        self._review_all()

    def _changed(self, name: str) -> None:
        """Note that a daemon has changed, perhaps its state."""
        daemon = self._fleet.daemons.get(name) if self._dependants else None
        if daemon is None or self._states.get(name) is daemon.state:
            return
        self._states[name] = daemon.state
        if daemon.state is State.STARTING and not daemon.definition.oneshot:
            self.start_below(name)
        for other in self._below(daemon):
            self._review(other)
        self._review(name)

    def _review_all(self) -> None:
        for name in self._dependants:
            self._review(name)

    def _review(self, name: str) -> None:
        """Let the idle time of a daemon begin, go on, or end."""
        daemon = self._fleet.daemons.get(name)
        after_s = daemon.definition.idle_stop_s if daemon is not None and name in self._dependants else None
        if daemon is None or after_s is None or _needs_no_stop(daemon) or self._is_needed(name):
            self._forget(name)
        elif name not in self._countdowns:
            self._count_down(name, after_s, after_s)

    def _count_down(self, name: str, whole_s: float, delay_s: float) -> None:
        self._countdowns[name] = Countdown(whole_s, delay_s, functools.partial(self._idle, name))

    def _forget(self, name: str) -> None:
        if name in self._countdowns:
            self._countdowns.pop(name).timer.cancel()

    def is_free(self, name: str) -> bool:
        """Return whether nobody has a lease on a daemon."""
        return not self._holders.get(name)

    def _is_needed(self, name: str) -> bool:
        daemon = self._fleet.daemons.get(name)
        is_kept = self.is_inhibited(name) and (daemon is None or daemon.definition.instance_of is None)
        return bool(self._holders.get(name)) or is_kept or any(self._standing_on(name))

    def _standing_on(self, name: str) -> Iterator[str]:
        """Iterate over the daemons that need this one because they run, or are about to."""
        for other in self._dependants.get(name, ()):
            if other in self._fleet.daemons and not _is_at_rest(self._fleet.daemons[other]):
                yield other

    def _idle(self, name: str) -> None:
        self._forget(name)
        daemon = self._fleet.daemons.get(name)
        after_s = daemon.definition.idle_stop_s if daemon is not None else None
        if daemon is None or after_s is None or _needs_no_stop(daemon) or self._is_needed(name):
            return
        if name in self._fleet.changing:
            self._count_down(name, after_s, NOT_YET_S)
        else:
            daemon.order(Event.STOP, f"nobody needed it for {after_s:g} s", Cause.IDLE)

    def close(self) -> None:
        """Stop nothing any more."""
        for name in list(self._countdowns):
            self._forget(name)
        self._dependants.clear()


def _is_at_rest(daemon: SupervisedDaemon) -> bool:
    """Return whether nothing of it runs, so that it needs nobody."""
    return is_down(daemon) or daemon.state is State.DONE


def _needs_no_stop(daemon: SupervisedDaemon) -> bool:
    """Return whether it is at rest, or will be. If it is ordered to start meanwhile, its idle time begins then."""
    return _is_at_rest(daemon) or daemon.state is State.STOPPING


def stands_on(definition: Definition, daemons: Mapping[str, SupervisedDaemon]) -> set[str]:
    """Return the names of the daemons that this one requires, refers to, or starts after, and of those that they stand
    on if they run once: when they are done, only their dependants need these."""
    found: set[str] = set()
    names = [*definition.after, *definition.requires]
    while names:
        name = names.pop()
        if name not in found and name in daemons and daemons[name].definition.oneshot:
            below = daemons[name].definition
            names += [*below.after, *below.requires]
        found.add(name)
    return found
