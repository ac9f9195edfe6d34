"""The lifecycle table, the restart policy, and a day of both in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neo_daemons.definitions import Definition, Launch, Restart, Stop
from neo_daemons.records import Identity
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Cause
from neo_daemons.supervision.fleet import UNKILLABLE_S
from neo_daemons.supervision.machine import ALIVE, LEAVING, TABLE, Action, Event, Refused, State, step
from neo_daemons.supervision.platform import ExitStatus, Lock, Mark, PortHolder, Process, SpawnSpec, Usage
from neo_daemons.supervision.policy import History, decide, delay_s, may_kill
from neo_daemons.supervision.supervisor import Supervisor

from .virtual import VirtualLoop

PAIRS = [(state, event) for state in State for event in Event]
ENDS = (Event.RETRY, Event.PARK, Event.REST, Event.KEEP, Event.DONE)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_has_an_outcome(state: State, event: Event) -> None:
    assert event in TABLE[state]
    if isinstance(TABLE[state][event], Refused):
        assert event in (Event.START, Event.STOP, Event.RESTART, Event.HOLD, Event.RELEASE)
        with pytest.raises(Refused, match=r"\w+"):
            step(state, event)
    else:
        after, actions = step(state, event)
        assert isinstance(after, State)
        assert all(isinstance(action, Action) for action in actions)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_job_ends_and_every_wait_is_woken(state: State, event: Event) -> None:
    """No state is entered without the action that leads out of it."""
    try:
        after, actions = step(state, event)
    except Refused:
        return
    if after is state:
        return
    needed = {
        State.STARTING: Action.PREPARE,
        State.RUNNING: Action.WATCH,
        State.BACKOFF: Action.WAIT,
        State.PARKED: Action.WAIT,
    }.get(after)
    assert needed is None or needed in actions
    if after in LEAVING and state not in LEAVING:
        assert Action.END in actions
    if after is State.ENDING:
        assert state is State.ENDING or event is Event.EXITED
    if state is State.RUNNING and after is State.READY:
        assert Action.GUARD in actions
    if state in (State.BACKOFF, State.PARKED) and event is not Event.DUE:
        assert Action.CANCEL in actions
    if state in ALIVE:
        # A living process is only ever left by its end.
        assert after in (*ALIVE, *LEAVING)
        assert event is not Event.EXITED or after is State.ENDING


@pytest.mark.parametrize("event", [Event.START, Event.RESTART])
@pytest.mark.parametrize("state", list(State))
def test_a_start_by_an_operator_forgets_earlier_failures(state: State, event: Event) -> None:
    """A session took the backoff of a daemon that was stopped and started again for a failure."""
    try:
        after, actions = step(state, event)
    except Refused:
        return
    assert after is state or Action.FORGET in actions


def test_a_stop_wins_from_everywhere() -> None:
    for state in State:
        if state is State.EXTERNAL:
            continue
        after, _ = step(state, Event.STOP)
        assert after in (State.STOPPED, State.STOPPING)
        for end in ENDS:
            assert step(State.STOPPING, end) == (State.STOPPED, ())


def test_an_external_daemon_obeys_no_order() -> None:
    for event in (Event.START, Event.STOP, Event.RESTART, Event.HOLD, Event.RELEASE):
        with pytest.raises(Refused):
            step(State.EXTERNAL, event)
    for event in set(Event) - {Event.START, Event.STOP, Event.RESTART, Event.HOLD, Event.RELEASE}:
        assert step(State.EXTERNAL, event) == (State.EXTERNAL, ())


@given(st.lists(st.sampled_from(Event), max_size=60))
def test_no_sequence_of_events_leads_out_of_the_table(events: list[Event]) -> None:
    state = State.STOPPED
    for event in events:
        try:
            state, _ = step(state, event)
        except Refused:
            assert state is State.HELD


NO_JITTER = Restart(jitter=0)


def failure(history: History, now: float, restart: Restart = NO_JITTER, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "cause": Cause.EXIT,
        "clean": False,
        "came_up": True,
        "lost_its_port": False,
        "held": False,
        "oneshot": False,
        "detail": "exit code 1",
    }
    return decide(restart, history, **{**arguments, **changes}, now=now, rng=random.Random(1))


def test_the_restart_timetable_is_the_documented_one() -> None:
    delays = [delay_s(NO_JITTER, failures, random.Random(1)) for failures in range(1, 12)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


@given(st.integers(1, 10_000), st.integers(), st.floats(0, 1))
def test_a_delay_is_bounded_by_ceiling_and_jitter(failures: int, seed: int, jitter: float) -> None:
    restart = Restart(jitter=jitter)
    plain = delay_s(NO_JITTER, failures, random.Random(seed))
    assert plain <= delay_s(restart, failures, random.Random(seed)) <= plain * (1 + jitter) + 1e-9


def test_too_many_restarts_park_with_the_first_cause() -> None:
    history = History()
    verdicts = [failure(history, number, detail=f"cause {number}") for number in range(11)]
    assert [verdict.event for verdict in verdicts] == [Event.RETRY] * 10 + [Event.PARK]
    assert verdicts[-1].reason == "restart limit reached (10 within 600 s); first cause: cause 0"
    assert verdicts[-1].delay_s == 900


def test_old_restarts_leave_the_window() -> None:
    history = History()
    assert {failure(history, number * 100).event for number in range(100)} == {Event.RETRY}


@pytest.mark.parametrize(
    ("when", "clean", "event"),
    [
        ("always", True, Event.RETRY),
        ("always", False, Event.RETRY),
        ("on-failure", True, Event.REST),
        ("on-failure", False, Event.RETRY),
        ("never", True, Event.REST),
        ("never", False, Event.REST),
    ],
)
def test_the_restart_rule_decides_on_exits(when: Any, clean: bool, event: Event) -> None:
    assert failure(History(), 0, Restart(when=when), clean=clean).event is event


@pytest.mark.parametrize(
    ("cause", "clean", "event"),
    [
        (Cause.EXIT, False, Event.PARK),
        (Cause.SIGNAL, False, Event.PARK),
        (Cause.EXIT, True, Event.REST),
        (Cause.FAULT, False, Event.REST),
    ],
)
def test_a_daemon_that_never_restarts_and_failed_before_it_was_ready_is_parked(
    cause: Cause, clean: bool, event: Event
) -> None:
    assert failure(History(), 0, Restart(when="never"), cause=cause, clean=clean, came_up=False).event is event


@pytest.mark.parametrize(
    ("cause", "came_up", "event"),
    [
        (Cause.EXIT, False, Event.RETRY),
        (Cause.SIGNAL, False, Event.RETRY),
        (Cause.PROBE, False, Event.RETRY),
        (Cause.PROBE, True, Event.PARK),
        (Cause.START_FAILED, False, Event.PARK),
    ],
)
def test_a_start_that_lost_the_race_for_its_port_is_no_restart(cause: Cause, came_up: bool, event: Event) -> None:
    history = History()
    lost = {"cause": cause, "came_up": came_up, "lost_its_port": True}
    assert failure(history, 0, Restart(when="never"), **lost).event is event
    events = {failure(history, 0, Restart(when="never", limit=3), **lost).event for _ in range(10)}
    assert Event.PARK in events, "it must not try for ever"


@pytest.mark.parametrize(
    ("cause", "event"), [(Cause.EXIT, Event.REST), (Cause.START_FAILED, Event.PARK), (Cause.PROBE, Event.PARK)]
)
def test_never_means_never_and_on_failure_means_any_failure(cause: Cause, event: Event) -> None:
    """A run that never started, or that its probes ended, does not count as finished work."""
    verdict = failure(History(), 0, Restart(when="never"), cause=cause)
    assert (verdict.event, verdict.delay_s) == (event, None)
    assert verdict.reason == "exit code 1; restart = 'never'"
    assert failure(History(), 0, Restart(when="on-failure"), cause=cause).event is Event.RETRY


def test_a_hold_wins_and_an_operators_restart_costs_nothing() -> None:
    history = History()
    assert failure(history, 0, held=True).event is Event.KEEP
    for number in range(100):
        verdict = failure(history, number, cause=Cause.OPERATOR)
        assert (verdict.event, verdict.delay_s) == (Event.RETRY, 0)
    assert failure(history, 0, held=True, cause=Cause.OPERATOR).event is Event.RETRY
    assert history.failures == 0


def test_the_kill_budget_is_hourly_and_outlasts_a_stable_run() -> None:
    history = History()
    events = []
    for number in range(5):
        assert may_kill(NO_JITTER, history, number * 100)
        events.append(failure(history, number * 100, cause=Cause.PROBE).event)
        history.forget()
    assert events == [Event.RETRY] * 4 + [Event.PARK]
    assert not may_kill(NO_JITTER, history, 3599)
    assert may_kill(NO_JITTER, history, 3601)


class _Process(Process):
    is_child = True

    def __init__(self, pid: int, world: World) -> None:
        self.pid = pid
        self.identity = Identity(boot_id="b", start_time=float(pid))
        self.world = world
        self.on_exit: Callable[[ExitStatus], None] | None = None

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        self.on_exit = on_exit
        life = self.world.lives(self.world.now())
        if life is not None:
            asyncio.get_running_loop().call_later(life, self.end)

    def end(self, status: ExitStatus | None = None) -> None:
        on_exit, self.on_exit = self.on_exit, None
        self.world.living.discard(self.pid)
        if on_exit is not None:
            on_exit(status or ExitStatus(code=1))

    def is_stopped(self) -> bool:
        return False

    def is_alive(self) -> bool:
        return self.pid in self.world.living

    def signal(self, signum: int) -> bool:
        alive = self.is_alive()
        if alive and signum and self.world.mortal:
            asyncio.get_running_loop().call_soon(self.end, ExitStatus(signal="SIGTERM"))
        return alive

    def signal_group(self, signum: int) -> bool:
        return self.signal(signum)

    def close(self) -> None:
        pass


class _Lock(Lock):
    def __init__(self, path: Path) -> None:
        self.path = path

    def fileno(self) -> int:
        return 0

    def is_at_its_path(self) -> bool:
        return True

    def release(self) -> None:
        pass


class World:
    """A platform whose only failures are the exits that `lives` schedules."""

    name = "virtual"
    reason: str | None = None

    def __init__(self, lives: Callable[[float], float | None]) -> None:
        self.lives = lives
        self.mortal = True
        """A signal ends them."""
        self.spawned: list[float] = []
        self.living: set[int] = set()

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    def boot_id(self) -> str:
        return "b"

    def own_identity(self) -> Identity:
        return Identity(boot_id="b", start_time=1.0)

    def spawn(self, spec: SpawnSpec) -> Process:
        self.spawned.append(self.now())
        pid = 1000 + len(self.spawned)
        self.living.add(pid)
        return _Process(pid, self)

    def open(self, pid: int, identity: Identity) -> Process | None:
        return None

    def marked(self, match: Callable[[Mark], bool]) -> list[tuple[Process, Mark]]:
        return []

    def pids(self) -> Sequence[int]:
        return []

    def newest_pid(self) -> int | None:
        return None

    def orphans(self) -> Sequence[int] | None:
        return None

    def open_marked(self, pid: int, mark: Mark) -> Process | None:
        return None

    def mark_of(self, pid: int) -> Mark | None:
        return None

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process]:
        return []

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        return False

    def oom_kills(self) -> int | None:
        return None

    def lock(self, path: Path, note: str = "") -> Lock | None:
        return _Lock(path)

    def port_is_free(self, host: str, port: int) -> bool:
        return True

    def free_port(self, host: str) -> int:
        return 1

    def listens(self, pid: int, port: int, host: str) -> bool:
        return False

    def port_holder(self, port: int, host: str | None = None) -> PortHolder | None:
        return None

    def file_changes(self) -> None:
        return None

    def usage(self, pids: Any) -> Mapping[int, Usage]:
        return {}

    def describe(self, pid: int) -> str | None:
        return None

    def age_s(self, identity: Identity) -> float:
        return asyncio.get_running_loop().time() - identity.start_time

    def become_subreaper(self) -> bool:
        return False

    def reap_orphans(self) -> None:
        pass


DAY_S = 86_400.0


def a_day(state: StateDir, world: World, restart: Restart, look: Sequence[float] = ()) -> dict[float, str]:
    """Run the real supervisor for 24 hours of virtual time; return the daemon's state at the times in `look`."""
    definition = Definition(name="api", command=("api",), restart=restart)
    seen: dict[float, str] = {}

    async def live() -> None:
        supervisor = Supervisor(
            [definition],
            state_dir=state,
            resolve=lambda definition: Launch(command=definition.command),
            platform=world,
            rng=random.Random(1),
        )
        await supervisor.start()
        for moment in (*look, DAY_S):
            await asyncio.sleep(moment - asyncio.get_running_loop().time())
            seen[moment] = supervisor.daemons["api"].state.public
        await supervisor.stop()
        supervisor.release()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live())
    return seen


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


@pytest.mark.long
def test_a_day_of_a_daemon_that_always_dies_at_once(state: StateDir) -> None:
    world = World(lambda now: 0.0)
    seen = a_day(state, world, NO_JITTER, look=(200.0, 1000.0))
    burst = [round(moment, 1) for moment in world.spawned[:11]]
    assert burst == [0.0, 0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 123.5, 183.5]
    # Then parked, revived after a quarter of an hour, and the same again.
    assert seen[200.0] == "parked"
    assert round(world.spawned[11], 1) == 183.5 + 900
    gaps = [then - now for now, then in zip(world.spawned, world.spawned[1:], strict=False)]
    assert max(gaps) == pytest.approx(900, abs=1)
    assert len([gap for gap in gaps if gap > 800]) == 79
    assert len(world.spawned) == 80 * 11


@pytest.mark.long
def test_a_day_of_a_daemon_that_dies_every_ten_minutes_is_a_day_of_immediate_restarts(state: StateDir) -> None:
    world = World(lambda now: 600.0)
    seen = a_day(state, world, NO_JITTER)
    assert len(world.spawned) == 144
    gaps = [then - now for now, then in zip(world.spawned, world.spawned[1:], strict=False)]
    assert max(gaps) < 600.1  # every restart was the first after a stable run
    assert seen[DAY_S] == "ready"


@pytest.mark.long
def test_a_day_of_a_daemon_that_recovers(state: StateDir) -> None:
    world = World(lambda now: 0.0 if now < 100 else None)
    seen = a_day(state, world, NO_JITTER, look=(99.0, 130.0))
    assert seen == {99.0: "backoff", 130.0: "ready", DAY_S: "ready"}
    assert len(world.spawned) == 10


@pytest.mark.long
def test_a_parked_daemon_that_is_not_revived_stays_parked(state: StateDir) -> None:
    world = World(lambda now: 0.0)
    seen = a_day(state, world, Restart(jitter=0, revive_s=0))
    assert len(world.spawned) == 11
    assert seen[DAY_S] == "parked"


def test_an_unkillable_daemon_delays_neither_a_reload_nor_the_stop_of_the_daemons_that_it_requires(
    state: StateDir,
) -> None:
    """Both once waited for ever."""
    world = World(lambda now: None)
    base = Definition(name="base", command=("base",), stop=Stop(grace_s=1.0))
    user = Definition(name="user", command=("user",), requires=("base",), stop=Stop(grace_s=1.0))
    loner = Definition(name="loner", command=("loner",), stop=Stop(grace_s=1.0))

    async def live() -> None:
        supervisor = Supervisor(
            [base, user, loner],
            state_dir=state,
            resolve=lambda definition: Launch(command=definition.command),
            platform=world,
        )
        await supervisor.start()
        await supervisor.daemon("user").wait_for(lambda daemon: daemon.ready)
        world.mortal = False
        async with asyncio.timeout(2 * UNKILLABLE_S):
            await supervisor.reload([base, user])
        assert state.daemon_record("loner").exists()
        async with asyncio.timeout(3 * UNKILLABLE_S):
            await supervisor.stop()
        assert state.daemon_record("base").exists()
        assert [entry.daemon for entry in supervisor.journal.latest(500) if entry.event == "not-stopped"] == [
            "loner",
            "user",
            "base",
        ]
        supervisor.release()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(live())
