"""The lifecycle of a daemon as data: (state, event) → (state, actions). Pure and total; no I/O, no clock.

Every state has a row, and every row names every event. Where several outcomes are possible (restart now, later or
never), the choice of the event decides: `policy` chooses it after a run, the probes during one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    """The state of a daemon. The values are those of ``status --json``; `CYCLING` and `ENDING` show as ``stopping``."""

    STOPPED = "stopped"
    """Down, and staying down: a user stopped it, its `restart` setting says so, or it is not enabled."""
    STARTING = "starting"
    """No process yet: it waits for other daemons, looks for a surviving process, or its provisions are being
    created."""
    RUNNING = "running"
    """The process is running and not ready yet."""
    READY = "ready"
    """Its readiness probes have passed."""
    DEGRADED = "degraded"
    """Was ready, is running, and fails its liveness probes."""
    BACKOFF = "backoff"
    """It exited, or could not be started; it will be started again after a delay."""
    PARKED = "parked"
    """Not restarted for now: too many restarts, its start was refused, or it failed and its restart rule is `never`."""
    HELD = "held"
    """Down, and on hold: a user said not to restart it."""
    ENDING = "ending"
    """The process has exited by itself, and processes it left behind are being stopped. Shown as `stopping`."""
    STOPPING = "stopping"
    """Being stopped, to stay down."""
    CYCLING = "cycling"
    """Being stopped in order to be started again. Shown as `stopping`."""
    UNAVAILABLE = "unavailable"
    """Cannot run at present: something is not installed, or a daemon that it requires will not come; `status` says
    what."""
    EXTERNAL = "external"
    """Run by somebody else; only observed."""
    DONE = "done"
    """It runs once, and has succeeded. It counts as ready."""

    @property
    def public(self) -> str:
        """The name in the status contract."""
        return _PUBLIC[self]


_PUBLIC = {state: str(state) for state in State} | {State.CYCLING: "stopping", State.ENDING: "stopping"}
ALIVE = frozenset({State.RUNNING, State.READY, State.DEGRADED})
"""States in which a process of the daemon is watched."""
MET = frozenset({State.READY, State.DONE})
"""States in which those that require a daemon may start."""
LEAVING = frozenset({State.ENDING, State.STOPPING, State.CYCLING})
"""States in which a stop is in progress; it answers with an end-of-run event."""
SETTLING = frozenset({State.STARTING, State.RUNNING, State.BACKOFF, *LEAVING})
"""States that a daemon leaves by itself, so that clients keep waiting for an outcome."""


class Event(StrEnum):
    """What happens to a daemon."""

    # An operator or the supervisor orders:
    START = "start"
    """A user or the supervisor starts it."""
    STOP = "stop"
    """A user or the supervisor stops it."""
    RESTART = "restart"
    """A user stops and starts it."""
    HOLD = "hold"
    """A user says that it is not to be restarted after it exits."""
    RELEASE = "release"
    """A user ends the hold."""
    # A prepared start results in:
    SPAWNED = "spawned"
    """A process is running, new or adopted."""
    REFUSED = "refused"
    """It must not be started: port or data directory in use."""
    MISSING = "missing"
    """What it needs is not installed, or a daemon that it requires will not come."""
    # The probes report:
    PASS = "pass"  # noqa: S105
    """Its probes pass."""
    FAIL = "fail"
    """A liveness probe fails."""
    CONDEMN = "condemn"
    """It was not ready within its grace period, failed too many probes, exceeded `max_runtime_s` or
    `max_rss_bytes`, or its files have changed."""
    # The kernel reports:
    EXITED = "exited"
    """The process has exited."""
    # The run is over (or did not begin), nothing of it is left, and the policy decides:
    RETRY = "retry"
    """The run has ended, and the daemon is to be restarted."""
    PARK = "park"
    """The run has ended, and the daemon is not restarted for now."""
    REST = "rest"
    """The run has ended, and its `restart` setting leaves it down."""
    KEEP = "keep"
    """The run has ended, and the daemon is on hold."""
    DONE = "done"
    """It runs once, and has succeeded, now or before."""
    # A delay is over, or what was missing may come:
    DUE = "due"
    """A delay is over, or the required daemon may come after all."""


class Action(StrEnum):
    """What the driver does on a transition, in this order."""

    PREPARE = "prepare"  # begin to start: dependencies, survivors, provisioning, spawn
    WATCH = "watch"  # poll for readiness
    GUARD = "guard"  # ready: probe liveness, measure the stable time
    END = "end"  # abandon a start, or stop the whole process tree; answers with an end-of-run event
    WAIT = "wait"  # start the delay that the policy chose; answers DUE
    CANCEL = "cancel"  # cancel the delay
    FORGET = "forget"  # an operator starts it: past failures no longer count
    UNHOLD = "unhold"
    REDO = "redo"  # what runs once is to run again


class Refused(Exception):
    """The order is not possible in this state; ``str()`` says what to do instead."""


class Transition(NamedTuple):
    """The result of a (state, event) pair."""

    state: State
    actions: tuple[Action, ...] = ()


IGNORE = None
"""The event changes nothing in this state: a late answer, or an order already carried out."""

Cell = Transition | Refused | None
S, E, A = State, Event, Action

_ENDED: dict[Event, Cell] = {
    E.RETRY: Transition(S.BACKOFF, (A.WAIT,)),
    E.PARK: Transition(S.PARKED, (A.WAIT,)),
    E.REST: Transition(S.STOPPED),
    E.KEEP: Transition(S.HELD),
    E.DONE: Transition(S.DONE, (A.FORGET,)),
}
_ENDS = tuple(_ENDED)
_ENDED_FOR_GOOD: dict[Event, Cell] = dict.fromkeys(_ENDS, Transition(S.STOPPED))
_FRESH = Transition(S.STARTING, (A.FORGET, A.PREPARE))
_AGAIN = Transition(S.STARTING, (A.REDO, A.FORGET, A.PREPARE))
_AT_ONCE = Transition(S.STARTING, (A.CANCEL, A.FORGET, A.PREPARE))
_AGAIN_AT_ONCE = Transition(S.STARTING, (A.CANCEL, A.REDO, A.FORGET, A.PREPARE))
_ANEW = Transition(S.CYCLING, (A.FORGET,))
_ANEW_AGAIN = Transition(S.CYCLING, (A.REDO, A.FORGET))
_PROBES = (E.PASS, E.FAIL, E.CONDEMN)
_OUTCOMES = (E.SPAWNED, E.REFUSED, E.MISSING)
_RUN = (E.EXITED, *_PROBES)
"""Events about a run; without a run they come too late."""


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
            {E.START: _FRESH, E.RESTART: _AGAIN, E.HOLD: Transition(S.HELD)},
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
                E.RESTART: _AGAIN_AT_ONCE,
                E.STOP: Transition(S.STOPPED, (A.CANCEL,)),
                E.HOLD: Transition(S.HELD, (A.CANCEL,)),
                E.DUE: Transition(S.STARTING, (A.PREPARE,)),
            },
            ignore=(E.RELEASE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.PARKED: _row(
            {
                E.START: _AT_ONCE,
                E.RESTART: _AGAIN_AT_ONCE,
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
                E.RESTART: _ANEW_AGAIN,
                E.STOP: Transition(S.STOPPING),
                **_ENDED,
            },
            ignore=(E.HOLD, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN),
        ),
        S.STOPPING: _row(
            {E.START: _ANEW, E.RESTART: _ANEW_AGAIN, **_ENDED_FOR_GOOD},
            ignore=(E.STOP, E.HOLD, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN),
        ),
        S.CYCLING: _row(
            {E.STOP: Transition(S.STOPPING), **_ENDED},
            ignore=(E.START, E.RESTART, E.HOLD, E.RELEASE, E.DUE, *_OUTCOMES, *_RUN),
        ),
        S.UNAVAILABLE: _row(
            {
                E.START: _FRESH,
                E.RESTART: _AGAIN,
                E.STOP: Transition(S.STOPPED),
                E.HOLD: Transition(S.HELD),
                E.DUE: Transition(S.STARTING, (A.PREPARE,)),
            },
            ignore=(E.RELEASE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
        S.DONE: _row(
            {
                E.RESTART: _AGAIN,
                E.STOP: Transition(S.STOPPED),
                E.CONDEMN: Transition(S.STARTING, (A.PREPARE,)),
            },
            ignore=(E.START, E.HOLD, E.RELEASE, E.PASS, E.FAIL, E.EXITED, E.DUE, *_OUTCOMES, *_ENDS),
        ),
        S.EXTERNAL: _row(
            dict.fromkeys((E.START, E.STOP, E.RESTART, E.HOLD, E.RELEASE), _NOT_OURS),
            ignore=(E.DUE, *_OUTCOMES, *_RUN, *_ENDS),
        ),
    }
)


def step(state: State, event: Event) -> Transition:
    """Return the transition for `event` in `state`; an ignored event leads to the same state without actions.

    Raises:
        Refused: an operator's order is not possible in this state.
    """
    cell = TABLE[state][event]
    if isinstance(cell, Refused):
        raise Refused(*cell.args)
    return Transition(state) if cell is IGNORE else cell
