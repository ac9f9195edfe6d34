"""The lifecycle of a daemon as data: (state, event) → (state, actions). Pure and total; no I/O, no clock.

Every state has a row and every row names every event. What decides between several outcomes (is it restarted? when?
parked?) is settled before the event is chosen: by `policy` for an ended run, by the probes for a living one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    """Where a daemon is. The values are those of ``status --json``; `CYCLING` and `ENDING` show as ``stopping``."""

    STOPPED = "stopped"
    STARTING = "starting"  # waiting for others, provisioning, looking for survivors: no process yet
    RUNNING = "running"  # the process lives and is not ready yet
    READY = "ready"
    DEGRADED = "degraded"  # was ready, lives, and fails its probes
    BACKOFF = "backoff"  # ended, and will be started again when its delay is over
    PARKED = "parked"  # given up for now: too many restarts, or its start was refused
    HELD = "held"  # ended, or not started, and an operator holds it
    ENDING = "ending"  # the process has ended unprompted, and what it left is being ended
    STOPPING = "stopping"  # being ended, to stay stopped
    CYCLING = "cycling"  # being ended, to be started again
    UNAVAILABLE = "unavailable"  # cannot run on this machine as it is
    EXTERNAL = "external"  # somebody else's: observed only

    @property
    def public(self) -> str:
        """The name in the status contract."""
        return "stopping" if self in (State.CYCLING, State.ENDING) else self.value


ALIVE = frozenset({State.RUNNING, State.READY, State.DEGRADED})
"""States in which a process of the daemon is watched."""
LEAVING = frozenset({State.ENDING, State.STOPPING, State.CYCLING})
"""States in which an end is under way; it answers with an end of run."""
SETTLING = frozenset({State.STARTING, State.RUNNING, State.BACKOFF, *LEAVING})
"""States that a daemon leaves by itself: whoever waits for an outcome waits on."""


class Event(StrEnum):
    """What happens to a daemon."""

    # An operator asks, or the supervisor itself:
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    HOLD = "hold"
    RELEASE = "release"
    # The start that was prepared came to:
    SPAWNED = "spawned"  # a process lives, new or adopted
    REFUSED = "refused"  # it must not be started: port or data held by somebody else
    MISSING = "missing"  # what it needs is not installed
    # The probes say:
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    CONDEMN = "condemn"  # not ready in its grace, failed too often, too old, too large
    # The kernel says:
    EXITED = "exited"  # the process of the run has ended
    # The run ended (or could not be begun), nothing of it is left, and the policy says:
    RETRY = "retry"
    PARK = "park"
    REST = "rest"  # by its own restart rule it stays down
    KEEP = "keep"  # an operator's hold keeps it down
    # A delay is over:
    DUE = "due"


class Action(StrEnum):
    """What the driver does on a transition, in the order given."""

    PREPARE = "prepare"  # begin a start: dependencies, survivors, provisioning, spawn
    WATCH = "watch"  # poll for readiness
    GUARD = "guard"  # ready: probe liveness, count the stable time
    END = "end"  # give up a start in preparation, or end the whole process tree; answers with an end of run
    WAIT = "wait"  # arm the delay that the policy gave; answers DUE
    CANCEL = "cancel"  # disarm it
    FORGET = "forget"  # an operator starts anew: the past failures no longer count
    UNHOLD = "unhold"


class Refused(Exception):
    """The event makes no sense in this state; ``str()`` says what to do instead."""


class Transition(NamedTuple):
    """What a (state, event) pair leads to."""

    state: State
    actions: tuple[Action, ...] = ()


IGNORE = None
"""The event changes nothing here: a late answer, or a wish already fulfilled."""

Cell = Transition | Refused | None
S, E, A = State, Event, Action

_ENDED: dict[Event, Cell] = {
    E.RETRY: Transition(S.BACKOFF, (A.WAIT,)),
    E.PARK: Transition(S.PARKED, (A.WAIT,)),
    E.REST: Transition(S.STOPPED),
    E.KEEP: Transition(S.HELD),
}
_ENDED_FOR_GOOD: dict[Event, Cell] = dict.fromkeys((E.RETRY, E.PARK, E.REST, E.KEEP), Transition(S.STOPPED))
_FRESH = Transition(S.STARTING, (A.FORGET, A.PREPARE))
_AT_ONCE = Transition(S.STARTING, (A.CANCEL, A.FORGET, A.PREPARE))
_ANEW = Transition(S.CYCLING, (A.FORGET,))
_PROBES = (E.PASS, E.FAIL, E.CONDEMN)
_OUTCOMES = (E.SPAWNED, E.REFUSED, E.MISSING)
_ENDS = (E.RETRY, E.PARK, E.REST, E.KEEP)
_RUN = (E.EXITED, *_PROBES)
"""What is said of a run; where there is none it comes too late."""


def _row(cells: Mapping[Event, Cell], *, ignore: Iterable[Event]) -> Mapping[Event, Cell]:
    ignored = set(ignore)
    forgotten, twice = set(Event) - set(cells) - ignored, set(cells) & ignored
    if forgotten or twice:
        raise AssertionError(f"forgotten: {sorted(forgotten)}, named twice: {sorted(twice)}")
    return MappingProxyType({event: cells.get(event, IGNORE) for event in Event})


def _alive(**cells: Cell) -> dict[Event, Cell]:
    return {
        E.STOP: Transition(S.STOPPING, (A.END,)),
        E.RESTART: Transition(S.CYCLING, (A.FORGET, A.END)),
        E.CONDEMN: Transition(S.CYCLING, (A.END,)),
        E.EXITED: Transition(S.ENDING, (A.END,)),
        **{Event(name): cell for name, cell in cells.items()},
    }


_NOT_OURS = Refused("it is external: neo-daemons does not control it")
_HELD = Refused("it is held; release it first")

TABLE: Mapping[State, Mapping[Event, Cell]] = MappingProxyType(
    {
        S.STOPPED: _row(
            {E.START: _FRESH, E.RESTART: _FRESH, E.HOLD: Transition(S.HELD)},
            ignore=(E.STOP, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.STARTING: _row(
            {
                E.STOP: Transition(S.STOPPING, (A.END,)),
                E.SPAWNED: Transition(S.RUNNING, (A.WATCH,)),
                E.REFUSED: Transition(S.PARKED, (A.WAIT,)),
                E.MISSING: Transition(S.UNAVAILABLE),
                **_ENDED,
            },
            ignore=(E.START, E.RESTART, E.HOLD, E.RELEASE, E.DUE, *_RUN),
        ),
        S.RUNNING: _row(
            _alive(**{"pass": Transition(S.READY, (A.GUARD,))}),
            ignore=(E.START, E.HOLD, E.RELEASE, E.FAIL, E.DUE, *_OUTCOMES, *_ENDS),
        ),
        S.READY: _row(
            _alive(fail=Transition(S.DEGRADED)),
            ignore=(E.START, E.HOLD, E.RELEASE, E.PASS, E.DUE, *_OUTCOMES, *_ENDS),
        ),
        S.DEGRADED: _row(
            _alive(**{"pass": Transition(S.READY)}),
            ignore=(E.START, E.HOLD, E.RELEASE, E.FAIL, E.DUE, *_OUTCOMES, *_ENDS),
        ),
        S.BACKOFF: _row(
            {
                E.START: _AT_ONCE,
                E.RESTART: _AT_ONCE,
                E.STOP: Transition(S.STOPPED, (A.CANCEL,)),
                E.HOLD: Transition(S.HELD, (A.CANCEL,)),
                E.DUE: Transition(S.STARTING, (A.PREPARE,)),
            },
            ignore=(E.RELEASE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.PARKED: _row(
            {
                E.START: _AT_ONCE,
                E.RESTART: _AT_ONCE,
                E.STOP: Transition(S.STOPPED, (A.CANCEL,)),
                E.HOLD: Transition(S.HELD, (A.CANCEL,)),
                E.DUE: Transition(S.STARTING, (A.FORGET, A.PREPARE)),
            },
            ignore=(E.RELEASE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.HELD: _row(
            {
                E.START: _HELD,
                E.RESTART: _HELD,
                E.STOP: Transition(S.STOPPED, (A.UNHOLD,)),
                E.RELEASE: _FRESH,
            },
            ignore=(E.HOLD, E.DUE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.ENDING: _row(
            {
                E.START: _ANEW,
                E.RESTART: _ANEW,
                E.STOP: Transition(S.STOPPING),
                **_ENDED,
            },
            ignore=(E.HOLD, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN),
        ),
        S.STOPPING: _row(
            {E.START: _ANEW, E.RESTART: _ANEW, **_ENDED_FOR_GOOD},
            ignore=(E.STOP, E.HOLD, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN),
        ),
        S.CYCLING: _row(
            {E.STOP: Transition(S.STOPPING), **_ENDED},
            ignore=(E.START, E.RESTART, E.HOLD, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN),
        ),
        S.UNAVAILABLE: _row(
            {
                E.START: _FRESH,
                E.RESTART: _FRESH,
                E.STOP: Transition(S.STOPPED),
                E.HOLD: Transition(S.HELD),
            },
            ignore=(E.RELEASE, E.DUE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.EXTERNAL: _row(
            dict.fromkeys((E.START, E.STOP, E.RESTART, E.HOLD, E.RELEASE), _NOT_OURS),
            ignore=(E.DUE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
    }
)


def step(state: State, event: Event) -> Transition:
    """What `event` does to a daemon in `state`; an ignored event leads to the same state with no action.

    Raises:
        Refused: an operator asked for what cannot be.
    """
    cell = TABLE[state][event]
    if isinstance(cell, Refused):
        raise Refused(*cell.args)
    return Transition(state) if cell is IGNORE else cell
