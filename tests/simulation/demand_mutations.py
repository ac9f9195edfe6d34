"""Mutations of what runs on demand and of what follows, each of which some seed must detect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

from neo_daemons.status import Cause, Holder, Needed
from neo_daemons.supervision import following, launch
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.demand import Demand
from neo_daemons.supervision.following import Following
from neo_daemons.supervision.jobs import Timer
from neo_daemons.supervision.machine import Event
from neo_daemons.supervision.need import Needs
from neo_daemons.supervision.situation import Situation
from neo_daemons.supervision.slot import Slot

Broken = contextlib.AbstractContextManager[Any]


# Leases, and what is idle


def leases_are_not_noted() -> Broken:
    """Start what a lease names, and forget the lease."""

    def take(self: Demand, lease: int, holder: Holder, needs: Iterable[str]) -> None:
        for name in needs:
            self.start(self._fleet.daemons[name])

    return mock.patch.object(Demand, "take", take)


def leases_start_nothing() -> Broken:
    def take(self: Demand, lease: int, holder: Holder, needs: Iterable[str]) -> None:
        for name in needs:
            self._holders.setdefault(name, {})[lease] = holder
            self._review(name)

    return mock.patch.object(Demand, "take", take)


def leases_are_never_given_up() -> Broken:
    return mock.patch.object(Demand, "give_up", lambda self, lease: self.inhibitors.pop(lease, None))


def one_holder_lets_all_go() -> Broken:
    give_up = Demand.give_up

    def mutated(self: Demand, lease: int) -> None:
        for name in [name for name, holders in self._holders.items() if lease in holders]:
            self._holders[name] = {lease: self._holders[name][lease]}
        give_up(self, lease)

    return mock.patch.object(Demand, "give_up", mutated)


def inhibitors_keep_nothing_up() -> Broken:
    return mock.patch.object(
        Demand, "_is_needed", lambda self, name: bool(self._holders.get(name)) or any(self._standing_on(name))
    )


def dependants_hold_nothing() -> Broken:
    return mock.patch.object(Demand, "_standing_on", lambda self, name: iter(()))


def what_it_stands_on_is_not_looked_at() -> Broken:
    """Let nothing below a daemon become idle when that daemon is down."""

    def changed(self: Demand, name: str) -> None:
        daemon = self._fleet.daemons.get(name) if self._dependants else None
        if daemon is not None and self._states.get(name) is not daemon.state:
            self._states[name] = daemon.state
            self._review(name)

    return mock.patch.object(Demand, "_changed", changed)


def a_need_does_not_end_the_idle_time() -> Broken:
    """Let the idle time that began before a need go on after it."""

    def forget(self: Demand, name: str) -> None:
        countdown = self._countdowns.get(name)
        if countdown is not None and countdown.timer.remaining_s is None:
            del self._countdowns[name]

    return mock.patch.object(Demand, "_forget", forget)


def the_idle_time_begins_again_with_each_change() -> Broken:
    review = Demand._review

    def mutated(self: Demand, name: str) -> None:
        self._forget(name)
        review(self, name)

    return mock.patch.object(Demand, "_review", mutated)


def a_reload_changes_nothing_on_demand() -> Broken:
    look_again = Demand.look_again

    def mutated(self: Demand) -> None:
        if not hasattr(self, "_looked"):
            vars(self)["_looked"] = True
            look_again(self)

    return mock.patch.object(Demand, "look_again", mutated)


def nothing_below_is_started() -> Broken:
    return mock.patch.object(Demand, "start_below", lambda self, name: None)


def a_need_restarts() -> Broken:
    start = Demand.start

    def mutated(self: Demand, daemon: SupervisedDaemon) -> None:
        start(self, daemon)
        if daemon.ready and daemon.name not in self._fleet.changing:
            daemon.order(Event.RESTART, "it is needed", Cause.OPERATOR)

    return mock.patch.object(Demand, "start", mutated)


# Needs


def a_need_keeps_nothing() -> Broken:
    """Do not hold a daemon while a client waits for it."""
    return mock.patch.object(Demand, "passing", lambda self, name, holder: 0)


def a_need_that_is_over_is_kept() -> Broken:
    async def need(self: Needs, name: str, wait_s: float, holder: str = "need") -> Needed:
        self._demand.passing(name, Holder(name=holder, pid=None, since=0.0))
        return await self._need(name, wait_s)

    return mock.patch.object(Needs, "need", need)


def a_need_does_not_wait() -> Broken:
    need = Needs._need
    return mock.patch.object(Needs, "_need", lambda self, name, wait_s: need(self, name, 0.0))


def a_need_waits_for_ever() -> Broken:
    change = Situation.change
    return mock.patch.object(Situation, "change", lambda self, timeout_s=None: change(self))


def a_need_knows_no_failure() -> Broken:
    return mock.patch.object(Needs, "_why_not", lambda self, daemon: None)


def a_need_starts_nothing() -> Broken:
    """Wait for a daemon that nobody starts."""

    async def need(self: Needs, name: str, wait_s: float) -> Needed:
        with mock.patch.object(self._demand, "start", lambda daemon: None):
            daemon = self._find(name)
            why = None if daemon.ready else self._why_not(daemon)
            return Needed(daemon=self._status_of(daemon), failure=why)

    return mock.patch.object(Needs, "_need", need)


def a_running_process_is_enough() -> Broken:
    """Answer a need when the process runs, before it is ready."""
    return mock.patch.object(
        SupervisedDaemon, "ready", property(lambda self: self.run is not None and self.run.process.is_alive())
    )


# Following


def values_are_not_compared() -> Broken:
    what_changed = following.what_changed

    def mutated(slot: Slot) -> str | None:
        why = what_changed(slot)
        return None if why is not None and "changed from" in why else why

    return mock.patch.object(following, "what_changed", mutated)


def runs_are_not_compared() -> Broken:
    what_changed = following.what_changed

    def mutated(slot: Slot) -> str | None:
        why = what_changed(slot)
        return None if why is not None and "was restarted" in why else why

    return mock.patch.object(following, "what_changed", mutated)


@contextlib.contextmanager
def every_reference_cascades() -> Iterator[None]:
    """Restart with a daemon that is referred to, whether its value has changed or not."""

    def runs_below(slot: Slot) -> dict[str, str]:
        return {name: following._token(slot.slots.get(name)) for name in slot.definition.after}

    with mock.patch.object(launch, "runs_below", runs_below), mock.patch.object(following, "runs_below", runs_below):
        yield


def followers_are_not_told() -> Broken:
    """Compare a daemon only when it begins a run itself."""

    def settled(self: Following) -> None:
        self.check()

    return mock.patch.object(Following, "settled", settled)


def adopted_runs_are_not_compared() -> Broken:
    check = Following.check

    def mutated(self: Following) -> None:
        if vars(self).setdefault("_began", self._slot.pidfile.record) is not None:
            check(self)

    def settled(self: Following) -> None:
        slot = self._slot
        for name in slot.slots.followers(slot.name):
            if name in self._others:
                mutated(self._others[name].following)

    return mock.patch.object(Following, "settled", settled)


def a_follower_that_must_wait_is_forgotten() -> Broken:
    """Do not look again at what was on hold or in use."""

    def start(self: Timer, delay_s: float, callback: Any) -> None:
        if getattr(callback, "__func__", None) is not Following.check:
            timer_start(self, delay_s, callback)

    timer_start = Timer.start
    return mock.patch.object(Timer, "start", start)


def a_follower_does_not_wait() -> Broken:
    """Restart what is on hold or in use."""

    def check(self: Following) -> None:
        why = following.what_changed(self._slot)
        if not self._stopped and self._slot.state in following.STOOD_ON and why is not None:
            self._watcher.condemn(Cause.RECYCLED, f"recycled: {why}")

    return mock.patch.object(Following, "check", check)


def the_run_below_is_not_recorded() -> Broken:
    """Compare with the run that was there before the start, so that a restart is followed by another one."""

    def runs_below(slot: Slot) -> dict[str, str]:
        return dict.fromkeys(slot.definition.cascades, "")

    return mock.patch.object(launch, "runs_below", runs_below)


DEMAND_MUTATIONS = (
    leases_are_not_noted,
    leases_start_nothing,
    leases_are_never_given_up,
    one_holder_lets_all_go,
    inhibitors_keep_nothing_up,
    dependants_hold_nothing,
    what_it_stands_on_is_not_looked_at,
    a_need_does_not_end_the_idle_time,
    the_idle_time_begins_again_with_each_change,
    a_reload_changes_nothing_on_demand,
    nothing_below_is_started,
    a_need_restarts,
    a_need_keeps_nothing,
    a_need_that_is_over_is_kept,
    a_need_does_not_wait,
    a_need_waits_for_ever,
    a_need_knows_no_failure,
    a_need_starts_nothing,
    a_running_process_is_enough,
)
FOLLOWING_MUTATIONS = (
    values_are_not_compared,
    runs_are_not_compared,
    every_reference_cascades,
    followers_are_not_told,
    adopted_runs_are_not_compared,
    a_follower_that_must_wait_is_forgotten,
    a_follower_does_not_wait,
    the_run_below_is_not_recorded,
)
