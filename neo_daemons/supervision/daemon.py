"""Drive one daemon: feed events to the lifecycle table and carry out its actions.

Events are handled at once and never wait. Whatever takes time (starting, stopping, probing) is a job that answers with
an event. At most one start and one stop are in progress.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping

from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.status import Cause, EventName

from . import faults, watching
from .following import Following
from .jobs import Job, Timer
from .launch import StartRefused, adopt, find_daemonized, is_outdated, resolve, spawn
from .leftovers import Leftovers
from .machine import ALIVE, LEAVING, MET, Action, Event, State, step
from .outcome import NOT_STARTED, outcome_of
from .past import Past, Span
from .platform import ExitStatus, Process
from .policy import Verdict, decide, revival_s
from .provision import ProvisionFailed, doubt_all
from .run import Run
from .situation import Situation
from .slot import Slot
from .tree import SWEEP_GRACE_S
from .waiting import CannotCome, wait_for_a_chance, wait_to_start
from .watcher import Watcher

GATE_S = 5.0
"""A start counts as in progress for at most this long, so that one slow daemon does not delay the others."""
REPAIR_S = 1.0


class SupervisedDaemon:
    """One daemon under supervision.

    Args:
        slot: what the daemon keeps from run to run.
        others: all daemons of the supervisor, by name.
        leftovers: processes that must have stopped before anything starts.
    """

    def __init__(self, slot: Slot, others: Mapping[str, SupervisedDaemon], leftovers: Leftovers) -> None:
        self.slot = slot
        self.name = slot.name
        self.situation = Situation(slot.name, slot.context.changed)
        self.past = Past()
        self.run: Run | None = None
        """The current run, from the spawn or adoption until all of its processes are gone."""
        self.launch: Launch | None = None
        """How the latest start resolved its definition on this machine."""
        self.attempt_start = 0
        """Position in the log at which the latest start attempt begins."""
        self.dropped = False
        """Its supervisor has dropped or replaced it, so its state no longer changes."""
        self.delay = Timer()
        """Time until the next try, in backoff or parked."""
        self._others = others
        self._leftovers = leftovers
        self._verdict: Verdict | None = None
        self._stable = Timer()
        self._starting = Job(self._fault)
        self._ending = Job(self._fault)
        self._probing = Job(self._fault)
        self.watcher = Watcher(slot, self.situation, self.past, self.handle, self.condemn)
        self.following = Following(slot, others, self.watcher)

    # What is known about it

    @property
    def definition(self) -> Definition:
        """The definition of the daemon."""
        return self.slot.definition

    @property
    def state(self) -> State:
        """The state in its lifecycle."""
        return self.slot.state

    @property
    def held(self) -> bool:
        """Whether an operator holds it."""
        return self.name in self.slot.context.holds

    @property
    def ready(self) -> bool:
        """Whether it is usable, according to the last probe."""
        return self.watcher.external_ready if self.state is State.EXTERNAL else self.state in MET

    async def wait_for(self, reached: Callable[[SupervisedDaemon], bool], timeout_s: float | None = None) -> bool:
        """Wait until `reached` holds for this daemon. Returns False if `timeout_s` passed first."""
        return await self.situation.wait_for(functools.partial(reached, self), timeout_s)

    # Requests from its supervisor

    def order(self, event: Event, reason: str | None = None, cause: Cause | None = None) -> None:
        """Carry out START, STOP, RESTART, HOLD or RELEASE. Returns at once; `state` shows the outcome.

        Raises:
            Refused: the order is not possible; the message says why.
        """
        if event in (Event.HOLD, Event.RELEASE):
            step(self.state, event)
            holds = self.slot.context.holds
            if holds.hold(self.name) if event is Event.HOLD else holds.release(self.name):
                self.slot.note(EventName(event.value), reason, cause=cause)
        if event is Event.START and self.state in (State.STOPPED, State.PARKED, State.BACKOFF, State.UNAVAILABLE):
            self.slot.restarts = 0
        self.handle(event, reason, cause=cause)

    async def signal(self, signum: int) -> bool:
        """Send a signal to its process group, as a requested fault; see `Run.signal`."""
        return self.run is not None and await self.run.signal(signum)

    def observe(self) -> None:
        """Begin to observe an external daemon."""
        if not self._probing.is_under_way:
            self._probing.begin(watching.observe(self.slot, self.watcher))
        self.following.settled()

    async def detach(self, *, finish: bool = True) -> None:
        """Leave the daemon running, for another supervisor to adopt. With `finish`, wait for a stop in progress."""
        self.dropped = True
        self._stable.cancel()
        self.delay.cancel()
        self.following.stop()
        self._probing.cancel()
        await self._starting.stop()
        await (self._ending.finished() if finish else self._ending.stop())
        if self.run is not None:
            self.run.let_go()
            self.run = None
        self.slot.release_data()
        self.situation.notify()

    def restore_record(self) -> None:
        """Rewrite the record after the state directory was recreated, and stop a run whose data directory is gone."""
        self.slot.move_record()
        if self.state in ALIVE and self.slot.has_lost_data():
            self.condemn(Cause.RECYCLED, "its data directory was deleted while it ran")

    def apply(self, definition: Definition) -> None:
        """Adopt a definition that differs only in policies, without touching the process."""
        self.slot.definition = definition
        self.slot.log.limits = definition.log
        self.slot.context.keep_log(self.name)
        if self.state is State.EXTERNAL:
            self._probing.cancel()
            if definition.enabled:
                self.observe()
            else:
                self.watcher.external_ready = False
        elif self.state in ALIVE:
            if self.state is State.READY:
                self._stable.start(definition.restart.stable_s, self.past.history.forget)
            self._watch()
            if not definition.live and self.state is State.DEGRADED:
                self.handle(Event.PASS, "no longer probed")
            self.following.settled()
        elif self.situation.waiting_for is not None:  # for what it may no longer require
            self.handle(Event.DUE) if self.state is State.UNAVAILABLE else self._act(Action.PREPARE)

    # The machine

    def handle(
        self, event: Event, detail: str | None = None, remedy: str | None = None, *, cause: Cause | None = None
    ) -> None:
        """Handle an event: go to the next state and carry out its actions.

        Raises:
            Refused: an operator's order is not possible in this state.
        """
        before, slot, run = self.state, self.slot, self.run
        state, actions = step(before, event)
        if state is before and not actions:
            return
        slot.state = state
        self.situation.enter(detail, remedy, cause)
        self._stable.cancel()
        if state is State.READY and run is not None:
            run.was_ready = self.past.has_been_ready = True
            self.past.failed_starts = 0
            if before is State.RUNNING and not run.adopted:
                self.past.ready_after_s = round(run.age_s, 3)
            self._stable.start(slot.definition.restart.stable_s, self.past.history.forget)
        if state is State.CYCLING and event in (Event.START, Event.RESTART) and run is not None:
            run.cause = Cause.OPERATOR
        if state in (State.STOPPED, State.HELD, State.PARKED, State.UNAVAILABLE, State.DONE):
            slot.release_data()
        if event is not Event.EXITED:  # the journal has it already
            slot.note(EventName(state.public), detail, run.process.pid if run is not None else None, cause)
        for action in actions:
            self._act(action)
        self.situation.notify()
        if event in (Event.SPAWNED, Event.DONE):
            self.following.settled()

    def _act(self, action: Action) -> None:
        match action:
            case Action.PREPARE:
                self._starting.begin(self._prepare())
            case Action.WATCH | Action.GUARD:
                self._watch()
            case Action.END if not self._ending.is_under_way:
                self._ending.begin(self._finish())
            case Action.WAIT if self._verdict is not None and self._verdict.delay_s == 0:
                self.handle(Event.DUE)
            case Action.WAIT if self._verdict is not None and self._verdict.delay_s is not None:
                self.delay.start(self._verdict.delay_s, lambda: self.handle(Event.DUE))
            case Action.CANCEL:
                self.delay.cancel()
            case Action.FORGET:
                self.past.forget()
            case Action.REDO if self.definition.oneshot:
                self.slot.redo()
            case Action.UNHOLD:
                self.slot.context.holds.release(self.name)

    def condemn(self, cause: Cause, why: str) -> None:
        """End this run because of a probe or a limit."""
        if self.run is not None:
            self.run.cause = cause
        self.handle(Event.CONDEMN, why, cause=cause)

    def _watch(self) -> None:
        """Watch the run as its state requires."""
        assert self.run is not None
        self._probing.cancel()
        work = watching.watch(self.run, self.watcher, has_come_up=self.state is not State.RUNNING)
        if work is not None:
            self._probing.begin(work)

    # A run begins

    async def _prepare(self) -> None:
        slot = self.slot
        self.attempt_start = slot.log.end
        try:
            await self._leftovers.wait(self.situation.progress)
            resolved = await resolve(slot)
            self.launch = resolved if isinstance(resolved, Launch) else None
            self.situation.missing = isinstance(resolved, CannotRun) and resolved.missing
            # Only the first start can find survivors: later ones follow an observed stop.
            first = slot.may_have_survivor
            if first and await self._adopt():
                return
            if isinstance(resolved, CannotRun):
                self.handle(Event.MISSING, resolved.reason, resolved.remedy)
                return
            if first and self.held:
                self._conclude(Cause.EXIT, True, "not started")
                return
            if (done := await wait_to_start(slot, resolved, self.situation, self._others)) is not None:
                self.handle(Event.DONE, done)
                return
            async with slot.context.gate:
                self._begin(await spawn(slot, resolved, self.situation.progress))
                self.handle(Event.SPAWNED)
                await self.wait_for(lambda daemon: daemon.state is not State.RUNNING, GATE_S)
        except CannotCome as error:
            self.handle(Event.MISSING, str(error), error.remedy)
            await wait_for_a_chance(error, self.situation, self._others)
            self.handle(Event.DUE)
        except StartRefused as error:
            why = f"cannot start {self.name}: {error}"
            self.past.ended = Span(None, self.attempt_start, slot.log.end)
            self._verdict = Verdict(Event.PARK, revival_s(slot.definition.restart), why)
            self.handle(Event.REFUSED, why, cause=Cause.REFUSED)
        except (OSError, ProvisionFailed, ValueError) as error:
            self._start_failed(faults.describe(error))

    async def _adopt(self) -> bool:
        """Adopt a surviving daemon, or stop it if its definition differs. Returns whether it runs."""
        slot, run = self.slot, await adopt(self.slot, self.launch)
        if run is not None:
            self._begin(run)
            if is_outdated(slot, self.launch):
                pid, ports = run.process.pid, dict(slot.ports.numbers)
                slot.note(EventName.REPLACED, f"pid {pid} was started from another definition", pid)
                slot.clear_record(gone=await run.end())
                self.run = run = None
                slot.ports.settle(ports)
        slot.may_have_survivor = False
        if run is not None:
            self.handle(Event.SPAWNED, "adopted", cause=Cause.ADOPTED)
        return run is not None

    def _begin(self, run: Run) -> None:
        self.run = run
        run.watch(functools.partial(self._exited, run), self._learned)

    def _start_failed(self, why: str) -> None:
        self.past.ended = Span(None, self.attempt_start, self.slot.log.end)
        self._conclude(Cause.START_FAILED, False, f"cannot start {self.name}: {why}")

    # A run ends

    def _exited(self, run: Run, status: ExitStatus) -> None:
        slot, alive, pid = self.slot, self.state in ALIVE, run.process.pid
        if alive and status.signal is not None and run.cause is Cause.EXIT:
            run.cause = Cause.SIGNAL
        text = run.how_it_ended(status) if alive else str(status)
        self.past.exited(pid, status, text)
        # While it is being stopped, the cause is that of the order or verdict being carried out.
        slot.note(EventName.EXIT, text, pid, run.cause if alive else self.situation.cause)
        self._probing.cancel()
        if alive and run.succeeded(status):
            slot.finish()
        follower = find_daemonized(run, status, was_starting=self.state is State.RUNNING) if alive else None
        if follower is not None:
            self._follow(run, follower)
            return
        self.handle(Event.EXITED, text, cause=run.cause)
        self.situation.notify()

    def _learned(self, pid: int, status: ExitStatus) -> None:
        if self.past.learned(pid, status):
            self.slot.note(EventName.EXIT_LEARNED, str(status), pid)

    def _follow(self, run: Run, process: Process) -> None:
        self.slot.note(EventName.FOLLOWED, "its command has exited; supervising the process that it left", process.pid)
        run.follow(process)
        self._begin(run)
        with contextlib.suppress(OSError):  # the intended record identifies it too
            self.slot.pidfile.establish(process.pid, process.identity)
        self._watch()

    async def _finish(self) -> None:
        """Stop all processes of this daemon, and decide what follows."""
        slot, unprompted = self.slot, self.state is State.ENDING
        self._probing.cancel()
        await self._starting.stop()
        run = self.run
        if run is not None:
            gone = await run.end()
            self.run = None
        else:
            gone = await slot.tree.sweep(min(SWEEP_GRACE_S, slot.definition.stop.grace_s))
        slot.clear_record(gone=gone)
        self.past.lost_its_port = slot.ports.held()
        outcome, for_good = NOT_STARTED, self.state is State.STOPPING
        if run is not None:
            self.past.ended = run.span
            slot.log.inode = None
            outcome = outcome_of(run, self.past, self.situation, unprompted=unprompted, for_good=for_good)
        elif for_good:
            outcome = outcome._replace(text=self.past.stopped(self.situation, slot.definition.stop) or outcome.text)
        self._conclude(*outcome, run=run)

    def _conclude(self, cause: Cause, clean: bool, text: str, run: Run | None = None) -> None:
        if self.dropped:
            return
        self._verdict = decide(
            self.definition.restart,
            self.past.history,
            cause=cause,
            clean=clean,
            came_up=run is not None and run.came_up,
            lost_its_port=self.past.lost_its_port,
            held=self.held,
            oneshot=self.definition.oneshot and run is not None,
            detail=text,
            now=asyncio.get_running_loop().time(),
            rng=self.slot.context.rng,
        )
        if cause in (Cause.EXIT, Cause.SIGNAL, Cause.PROBE, Cause.START_FAILED) and (run is None or not run.was_ready):
            self.past.failed_starts += 1
            if self.launch is not None:
                doubt_all(self.launch.provisions, self.slot.context.tried)
        if self._verdict.event is Event.RETRY and cause is not Cause.OPERATOR:
            self.slot.count_restart()
        shown = self.situation.cause or cause if cause is Cause.OPERATOR else cause
        self.handle(self._verdict.event, self._verdict.reason, cause=shown)

    # An internal error must not leave the daemon stuck in a state

    def _fault(self, error: Exception) -> None:
        faults.report(f"daemon {self.name}", error)
        self.slot.note(EventName.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        if self.state is State.STARTING:
            self._start_failed(f"internal error: {error}")
        elif not self.dropped:
            asyncio.get_running_loop().call_later(REPAIR_S, self._repair)

    def _repair(self) -> None:
        """Resume a job that an internal error (no descriptor left, for example) interrupted."""
        if self.dropped:
            return
        if self.state in LEAVING:
            self._act(Action.END)
        elif self.state is State.EXTERNAL:
            self.observe()
        elif self.state in ALIVE:
            self._watch()
