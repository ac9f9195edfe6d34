"""Plan a reload, and carry it out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from neo_daemons.definitions import CannotRun, Definition, Launch, fingerprint
from neo_daemons.status import Change, EventName
from neo_daemons.watched import changed, in_words

from .daemon import SupervisedDaemon
from .fleet import Fleet, is_down, stop_in_order
from .machine import Event, State

DOWN = (State.STOPPED, State.STOPPING)
"""States of a daemon that has been stopped, or is being stopped, and is not to be started again."""

Resolve = Callable[[Definition], Launch | CannotRun]


async def plan(fleet: Fleet, new: Iterable[Definition]) -> list[Change]:
    """Plan how to bring the daemons in line with new definitions, touching only those that changed."""
    definitions, daemons = {definition.name: definition for definition in new}, fleet.daemons
    old = [daemon.definition for daemon in daemons.values() if daemon.slot.pidfile.record is None]
    resolve = await resolving(fleet.context.resolve, [*definitions.values(), *old])
    changes = [
        *(
            Change(name=name, action="stop", reason="no longer configured")
            for name in daemons
            if name not in definitions
        ),
        *(change(daemons.get(definition.name), definition, resolve) for definition in definitions.values()),
    ]
    return sorted(changes, key=lambda change: change.action != "stop")  # in the order in which they are carried out


async def resolving(resolve: Resolve, definitions: Iterable[Definition]) -> Resolve:
    """Return `resolve` such that it reads no files of these definitions: they are read here, in a thread."""
    read: list[tuple[Definition, Launch | CannotRun]] = []
    for definition in definitions:
        if definition.files and all(known != definition for known, _ in read):
            read.append((definition, await asyncio.to_thread(resolve, definition)))
    return lambda definition: next((found for known, found in read if known == definition), None) or resolve(definition)


def change(current: SupervisedDaemon | None, new: Definition, resolve: Resolve) -> Change:
    """Plan the change of one daemon.

    Args:
        current: the daemon of that name, if it exists.
    """
    if current is None:
        return Change(name=new.name, action="start" if new.enabled else "apply", reason="newly configured")
    old = current.definition
    if old.enabled != new.enabled:
        action = "start" if new.enabled else "stop"
        return Change(name=new.name, action=action, reason=f"enabled = {str(new.enabled).lower()}")
    if old.start != new.start == "always" and current.state in DOWN:
        return Change(name=new.name, action="start", reason="start = always")
    if current.state is State.UNAVAILABLE and current.situation.waiting_for is None:
        return Change(name=new.name, action="replace", reason="was unavailable; trying again")
    differing = ", ".join(field for field in new.__struct_fields__ if getattr(old, field) != getattr(new, field))
    launch = resolve(new)
    if isinstance(launch, Launch):
        if _fingerprint(current, resolve) != fingerprint(new, launch):
            return Change(name=new.name, action="replace", reason=_what_changed(current, differing, launch))
    elif differing:
        return Change(name=new.name, action="replace", reason=f"{differing} changed")
    elif not launch.missing:
        return Change(name=new.name, action="replace", reason=launch.reason)
    if differing:
        return Change(name=new.name, action="apply", reason=f"{differing} changed; no restart needed")
    return Change(name=new.name, action="keep", reason="unchanged")


def _what_changed(daemon: SupervisedDaemon, differing: str, launch: Launch) -> str:
    """Return why the current run has another fingerprint than the one that would be started.

    Args:
        differing: the fields of the definition that differ.
    """
    files = changed(daemon.launch.watched, launch.watched) if daemon.launch is not None else []
    if files and not differing:
        return in_words(files)
    return f"{differing or 'the installed program'} changed"


def _fingerprint(daemon: SupervisedDaemon, resolve: Resolve) -> str | None:
    """Return the fingerprint of the current run, or of the one that has done its work; without one, of the run that
    would be started."""
    record = daemon.slot.pidfile.record or daemon.slot.done.record
    if record is not None:
        return record.fingerprint
    launch = resolve(daemon.definition)
    return fingerprint(daemon.definition, launch) if isinstance(launch, Launch) else None


async def carry_out(fleet: Fleet, new: Mapping[str, Definition]) -> list[Change]:
    """Carry out a reload. Returns the changes; new processes may still be starting."""
    changes = await plan(fleet, new.values())
    fleet.changing = {c.name: False for c in changes if c.action in ("stop", "replace", "start")}
    for each in changes:
        if each.action != "keep":
            fleet.context.journal.add(EventName(f"reload-{each.action}"), daemon=each.name, detail=each.reason)
    try:
        await _carry_out(fleet, changes, new)
    finally:
        wanted = [name for name, is_wanted in fleet.changing.items() if is_wanted]
        fleet.changing = {}
        for daemon in (fleet.daemons[name] for name in wanted if name in fleet.daemons):
            if daemon.state in DOWN and not fleet.context.is_stopping():
                fleet.begin(daemon, by_hand=True)
        for daemon in fleet.daemons.values():
            daemon.situation.notify()
    return changes


async def _carry_out(fleet: Fleet, changes: list[Change], new: Mapping[str, Definition]) -> None:
    await stop_in_order([fleet.daemons[c.name] for c in changes if c.action == "stop"])
    for each in changes:
        daemon = fleet.daemons.get(each.name)
        if each.action == "apply" and daemon is not None:
            daemon.apply(new[each.name])
        elif each.action == "stop" and each.name not in new:
            await fleet.remove(each.name)
        elif each.action == "stop" and daemon is not None:
            daemon.apply(new[each.name])
            daemon.situation.detail, daemon.situation.cause = "not enabled in the configuration", None
    await asyncio.gather(*(_replace(fleet, new[c.name]) for c in changes if c.action in ("start", "replace")))
    for each in changes:
        if each.action == "apply" and each.name not in fleet.daemons and not fleet.context.is_stopping():
            fleet.begin(fleet.add(new[each.name]))
    fleet.sort(list(new))


async def _replace(fleet: Fleet, definition: Definition) -> None:
    old = fleet.daemons.get(definition.name)
    # Stopped by an operator, or by its restart rule; an external daemon is never ordered to stop.
    down = old is not None and old.state in DOWN
    wakes = old is not None and old.definition.start != definition.start == "always"
    held_down = old is not None and old.state is State.HELD
    disabled = old is not None and not old.definition.enabled
    by_hand = old is not None and disabled and not down and old.state is not State.EXTERNAL
    if old is not None:
        await stop_in_order([old])
        await old.detach(finish=is_down(old))
    if fleet.context.is_stopping():
        return
    daemon = fleet.add(definition)
    if old is not None:
        old.slot.log.limits = definition.log
        daemon.slot.log = old.slot.log  # followers keep their place
        daemon.past.last_exit = old.past.last_exit
        daemon.slot.ports.settle(old.slot.ports.numbers)
    if by_hand or fleet.changing.get(definition.name):
        fleet.changing[definition.name] = False
        fleet.begin(daemon, by_hand=not definition.external)
    elif held_down and not definition.external:
        daemon.order(Event.HOLD, "still on hold")
    elif disabled or wakes or not down or definition.external:
        fleet.begin(daemon, resume=old is not None and not down)
