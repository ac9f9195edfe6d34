"""When a run is compared with what it stands on, in any order of the starts of two daemons."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from neo_daemons.definitions import Definition
from neo_daemons.records import DaemonRecord
from neo_daemons.supervision.following import Following
from neo_daemons.supervision.machine import State
from neo_daemons.supervision.slot import Slots


class Pair:
    """A daemon `db`, and `api`, whose run was given another port of it than the present one, 8002."""

    def __init__(self, api: State, db: State) -> None:
        self.slots = Slots()
        self.condemned: list[str] = []
        self.others: dict[str, Any] = {}
        for name, state in (("db", db), ("api", api)):
            slot: Any = SimpleNamespace(
                name=name,
                state=state,
                definition=Definition(name=name),
                slots=self.slots,
                pidfile=SimpleNamespace(record=_record(name)),
                values_for_others=lambda: {"port": "8002"},
                note=lambda *_: None,
                context=SimpleNamespace(is_stopping=lambda: False, turns=SimpleNamespace(call=lambda work: work())),
            )
            self.slots.add(slot)
            watcher: Any = SimpleNamespace(
                may_recycle=lambda: True, condemn=lambda cause, why: self.condemned.append(why)
            )
            self.others[name] = SimpleNamespace(slot=slot, following=Following(slot, self.others, watcher))


def _record(name: str) -> DaemonRecord:
    return DaemonRecord(
        name=name,
        token=name * 8,
        fingerprint="",
        command=("x",),
        ports={},
        url=None,
        data_dir=None,
        log_path="",
        spawned_at=0.0,
        log_offset=0,
        used={"daemons.db.port": "8001"} if name == "api" else {},
    )


CHANGED = ["recycled: daemons.db.port changed from 8001 to 8002"]


@pytest.mark.parametrize("state", [State.RUNNING, State.READY, State.DEGRADED, State.EXTERNAL])
def test_a_run_that_is_adopted_after_the_change_is_compared_at_once(state: State) -> None:
    pair = Pair(State.RUNNING, state)
    pair.others["api"].following.settled()
    assert pair.condemned == CHANGED


def test_the_values_of_a_daemon_that_is_down_are_compared_when_it_is_up() -> None:
    pair = Pair(State.READY, State.STARTING)
    pair.others["api"].following.settled()
    assert pair.condemned == []
    pair.others["db"].slot.state = State.RUNNING
    pair.others["db"].following.settled()
    assert pair.condemned == CHANGED


@pytest.mark.parametrize("state", [State.STARTING, State.BACKOFF, State.STOPPED, State.CYCLING])
def test_a_daemon_that_is_not_up_is_left_alone(state: State) -> None:
    pair = Pair(State.READY, State.STARTING)
    pair.others["api"].following.settled()
    pair.others["api"].slot.state, pair.others["db"].slot.state = state, State.RUNNING
    pair.others["db"].following.settled()
    assert pair.condemned == []


def test_a_dropped_daemon_is_left_alone() -> None:
    pair = Pair(State.READY, State.RUNNING)
    pair.others["api"].following.stop()
    pair.others["api"].following.settled()
    assert pair.condemned == []
