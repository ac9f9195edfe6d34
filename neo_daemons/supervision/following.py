"""Restart a daemon whose run stands on what is no longer true: a value of another daemon that it was started with, or
an earlier run of a daemon that it cascades from.

A run is compared when it begins, and when a daemon that it stands on begins a run or gets a new definition. Only those
daemons are looked at, never all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from neo_daemons.records import DaemonRecord, DoneRecord
from neo_daemons.references import split
from neo_daemons.status import Cause, EventName
from neo_daemons.urls import redacted_within

from .jobs import Timer
from .machine import ALIVE, State
from .slot import Slot
from .watcher import Watcher

STOOD_ON = ALIVE | {State.DONE}
"""States in which others stand on the latest run."""
RETRY_S = 0.5
"""How often it is tried to restart a daemon that must not be restarted yet."""


class Peer(Protocol):
    """Another daemon of the same supervisor."""

    following: Following


def runs_below(slot: Slot) -> dict[str, str]:
    """Return the runs that a daemon cascades from, as known now: name → token of the run; empty without one."""
    return {name: _token(slot.slots.get(name)) for name in slot.definition.cascades}


def _token(slot: Slot | None) -> str:
    record = _stood_on(slot) if slot is not None else None
    return record.token if record is not None else ""


def _stood_on(slot: Slot) -> DaemonRecord | DoneRecord | None:
    """Return the record of the run that others stand on: the current one, or the one that has done its work."""
    return slot.pidfile.record or slot.done.record


def what_changed(slot: Slot) -> str | None:
    """Return what has changed below the run of a daemon; None if nothing has. A daemon that is not up changes nothing:
    its values are settled when it starts."""
    record = _stood_on(slot)
    if record is None:
        return None
    # What is done does not use its values any more.
    for reference, before in record.used.items() if isinstance(record, DaemonRecord) else ():
        other, key = split(reference) or ("", "")
        now = _value(slot.slots.get(other), key)
        if now is not None and now != before:
            return redacted_within(f"{reference} changed from {before} to {now}")
    for name, token in record.runs_below.items():
        below = slot.slots.get(name)
        if below is not None and below.state in STOOD_ON and _token(below) != token:
            return f"{name} was restarted"
    return None


def _value(slot: Slot | None, key: str) -> str | None:
    if slot is None or slot.state not in ALIVE | {State.EXTERNAL}:
        return None
    return slot.values_for_others().get(key)


class Following:
    """Restarts one daemon when what its run stands on has changed.

    Args:
        others: all daemons of the supervisor, by name.
        watcher: ends the run.
    """

    def __init__(self, slot: Slot, others: Mapping[str, Peer], watcher: Watcher) -> None:
        self._slot = slot
        self._others = others
        self._watcher = watcher
        self._timer = Timer()
        self._noted: str | None = None
        """What was last said in the journal while a restart had to wait."""
        self._stopped = False

    def stop(self) -> None:
        """Restart nothing any more."""
        self._stopped = True
        self._timer.cancel()

    def settled(self) -> None:
        """Compare this daemon, and those that stand on it: it has begun a run, or got another definition."""
        slot = self._slot
        record = slot.pidfile.record
        if slot.state is State.DONE and slot.done.record is not None:
            slot.slots.follow(slot.name, slot.done.record.runs_below)
            self.check()
        elif record is not None and slot.state in ALIVE:
            below = {name: record.runs_below.get(name, token) for name, token in runs_below(slot).items()}
            if below != record.runs_below:  # recorded before it cascaded
                slot.pidfile.record = record = msgspec.structs.replace(record, runs_below=below)
            slot.slots.follow(slot.name, _daemons(record.used, below))
            self.check()
        for name in slot.slots.followers(slot.name):
            if name in self._others:
                slot.context.turns.call(self._others[name].following.check)

    def check(self) -> None:
        """Restart the daemon if what its run stands on has changed. While that is not possible, try it again."""
        slot = self._slot
        self._timer.cancel()
        if self._stopped or slot.state not in STOOD_ON or slot.context.is_stopping():
            return  # its next run takes what is true then
        why = what_changed(slot)
        if why is None:
            self._noted = None
        elif self._watcher.may_recycle():
            self._noted = None
            slot.note(EventName.OUTDATED, why)
            self._watcher.condemn(Cause.RECYCLED, f"recycled: {why}")
        else:
            if why != self._noted:
                self._noted = why
                slot.note(EventName.OUTDATED, f"{why}; not restarted while it is on hold or tests use it")
            self._timer.start(RETRY_S, self.check)


def _daemons(used: Iterable[str], below: Iterable[str]) -> set[str]:
    """Return the daemons that a run stands on."""
    return {found[0] for found in map(split, used) if found is not None} | set(below)
