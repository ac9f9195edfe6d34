"""Drives one daemon: feeds what happens to the lifecycle table and carries out its actions.

Events are handled at once and never wait; whatever takes time (a start, an end, probing) is a task that answers with
an event. At most one start and one end are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, NamedTuple

from neo_daemons.definitions import Definition, HttpProbe, Launch, Unavailable
from neo_daemons.records import DaemonRecord
from neo_daemons.references import UnknownReference, expand, expand_all
from neo_daemons.status import Cause, DaemonStatus, EventName, Exit

from . import faults, starting, watching
from .logs import LOST, DaemonLog
from .machine import ALIVE, Action, Event, State, step
from .meter import CpuMeter
from .pidfile import PidFile
from .platform import MARK_VARIABLE, ExitStatus, Lock, Mark, Process, Usage
from .policy import History, Verdict, decide, revival_s
from .ports import Ports
from .probes import Answer, Result, Target, without_requests_of
from .provision import ProvisionFailed, doubt
from .site import Site
from .tree import Tree

GATE_S = 5.0
"""A start counts as under way for this long at most, so that one slow daemon does not keep others waiting."""
REPAIR_S = 1.0
STOP_POLL_S = 0.002
STOPPED_S = 1.0
"""A process sees SIGSTOP when it is next scheduled, or leaves the kernel."""
LAUNCHER_S = 5.0
"""A command without a readiness probe that exits with 0 within this, and leaves processes, was a launcher."""
REMEMBERED_RESULTS = 20
LAST_LINES = 10
"""Among these the last words of a daemon are looked for: some end with empty lines."""
OWN_REQUESTS = 500
"""Lines more that are read for those that are left out: a server logs each request of our probes."""


class Span(NamedTuple):
    """What a run has written to the log."""

    pid: int | None
    """None: no process came of it, and this is what provisioning wrote."""
    start: int
    end: int


class _Values(Mapping[str, str]):
    """A daemon's own values, and those of all others. Of these only what is asked for is made: there may be many."""

    def __init__(self, daemon: Daemon) -> None:
        self._own = daemon.values_of_its_own()
        self._daemon = daemon

    def __getitem__(self, name: str) -> str:
        if name in self._own:
            return self._own[name]
        kind, _, rest = name.partition(".")
        other, _, key = rest.partition(".")
        if kind != "daemons" or other == self._daemon.name:
            raise KeyError(name)
        return self._daemon.site.daemons[other].values_for_others()[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for name, other in self._daemon.site.daemons.items():
            if other is not self._daemon:
                yield from (f"daemons.{name}.{key}" for key in other.values_for_others())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Daemon:
    """One daemon under supervision."""

    def __init__(self, definition: Definition, site: Site) -> None:
        self.definition = definition
        self.name = definition.name
        self.site = site
        self.state = State.EXTERNAL if definition.external else State.STOPPED
        self.since = time.time()
        """When it came into its state; seconds since the epoch."""
        self.detail: str | None = None
        self.cause: Cause | None = None
        """Of the state, where there is one."""
        self.held = False
        self.waiting_for: str | None = None
        """The daemon that must be ready, or started, before this one starts."""
        self.adopted = False
        self._was_ready = False
        """Its present, or latest, run has been."""
        self._followed = False
        """Its present process was forked off by the command, which has ended."""
        self.restarts = 0
        self.last_exit: Exit | None = None
        self.external_ready = False
        self.history = History()
        self.ready_after_s: float | None = None
        """From the latest spawn by this supervisor to being ready."""
        self.has_been_ready = False
        self.overdue = False
        """It has used up its grace, and its probes cannot tell whether it is ready: nobody waits for that."""
        self.vain_starts = 0
        """Runs in a row that have ended before they were ready."""
        self.lost_its_port = False
        """When its latest run ended unprompted, somebody else had one of its ports."""
        self.probe_results: deque[tuple[float, Result]] = deque(maxlen=REMEMBERED_RESULTS)
        self.log = DaemonLog(site.state.daemon_log(self.name), definition.log)
        self.pidfile = PidFile(site.state.daemon_record(self.name), site.ownership)
        self.ports = Ports(site.platform, definition, self._ports_of_others)
        self.tree = Tree(site.platform, self.name, site.ownership, self.note, self._mains_of_others)
        self.target: Target | None = None
        """What the probes of the present run are aimed at."""
        self.ended: Span | None = None
        """What the latest run, or start, that has ended wrote to the log."""
        self._log_start = 0
        """Position in the log where the present run, or the attempt to start one, begins."""
        self.data_lock: Lock | None = None
        self._remedy: str | None = None
        self._launch: Launch | None = None
        self._verdict: Verdict | None = None
        self._cause = Cause.EXIT
        self._looked_for_survivors = False
        self._leaving = False
        """Let go by this supervisor: nothing is begun any more."""
        self._dead = False
        """The main process has ended, and what it left is being ended."""
        self._taken_at: float | None = None
        self._age_before_s = 0.0
        self._oom_before: int | None = None
        self._meter = CpuMeter()
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._delay: asyncio.TimerHandle | None = None
        self._stable: asyncio.TimerHandle | None = None

    # What its supervisor asks of it

    def load(self) -> None:
        """Read the record of an earlier supervisor and settle the ports. To be called before any start."""
        try:
            fault = self.pidfile.load()
        except OSError as error:
            fault = f"{self.pidfile.path} cannot be read or set aside: {error.strerror}"
        if fault is not None:
            self.note(EventName.RECORD_DAMAGED, fault)
        record = self.pidfile.record
        if record is not None:
            self.restarts = record.restarts
        # A host that is not ours, or a name that leads nowhere: the start will say so.
        with contextlib.suppress(OSError):
            self.ports.settle(record.ports if record is not None else {})
        for name, port in self.definition.ports.items():
            number = self.ports.numbers.get(name)
            if record is None and port.preferred is not None and number not in (None, port.preferred):
                self.note(EventName.PORT_TAKEN, f"port {port.preferred} is held by somebody; using {number}")

    def order(self, event: Event, reason: str | None = None, cause: Cause | None = None) -> None:
        """Carry out a wish: START, STOP, RESTART, HOLD or RELEASE. Returns at once; the outcome shows in `state`.

        Raises:
            Refused: it cannot be done; says why.
        """
        if event in (Event.HOLD, Event.RELEASE):
            step(self.state, event)
            if self.held != (event is Event.HOLD):
                self.held = event is Event.HOLD
                self.site.save_intentions()
                self.note(EventName(event.value), reason, cause=cause)
        if event is Event.START and self._dead and self.state in ALIVE:
            event = Event.RESTART  # it is seen as alive until what it left has ended
        if event is Event.START and self.state in (State.STOPPED, State.PARKED, State.BACKOFF, State.UNAVAILABLE):
            self.restarts = 0
        self.handle(event, reason, cause=cause)

    async def signal(self, signum: int) -> bool:
        """Send a signal to its process group, as a fault that somebody asked for; False if it has no process. When
        this returns, the exit, or the stop, has been seen."""
        main = self.tree.main
        if main is None or self._dead:
            return False
        cause = Cause.REPAIR if signum == signal.SIGCONT else Cause.FAULT
        self.note(EventName.SIGNALLED, f"{signal.Signals(signum).name}, as asked", main.pid, cause)
        sent = self.tree.signal(signum)
        if sent and signum == signal.SIGKILL:
            self._cause = Cause.FAULT
            await self.wait_for(lambda daemon: daemon.tree.main is not main or daemon._dead)
        if sent and signum == signal.SIGSTOP:
            deadline = time.monotonic() + STOPPED_S
            while main.is_alive() and not main.is_stopped() and time.monotonic() < deadline:  # noqa: ASYNC110 - not told
                await asyncio.sleep(STOP_POLL_S)
        return sent

    @property
    def dropped(self) -> bool:
        """Its supervisor has let it go, for good or for another of the same name: its state changes no more."""
        return self._leaving

    def observe(self) -> None:
        """Begin to look after an external daemon."""
        if self._probing is not None:
            return
        self.target = self._new_target(0)
        self.target.external = True
        self._probing = self._task(watching.observe(self))

    async def wait_for(self, reached: Callable[[Daemon], bool], timeout_s: float | None = None) -> bool:
        """Until `reached` holds of this daemon; False if `timeout_s` passed first."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        while not reached(self):
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            await self.site.changed.wait(left)
        return True

    async def end_leftovers(self) -> None:
        """End what an earlier supervisor left of a daemon that is no longer configured."""
        await self.tree.sweep(self.definition.stop.grace_s)
        self.clear_record()

    async def detach(self, *, finish: bool = True) -> None:
        """Let go of the daemon and leave it running, for another supervisor to adopt. An end that is under way is
        waited for, unless not to `finish` it."""
        self._leaving = True
        self._cancel_stable()
        self._cancel_delay()
        self._stop_probing()
        await self._give_up_start()
        if self._ending is not None:
            if not finish:
                self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)
        self.tree.let_go()
        self._release_data()

    def moved(self) -> None:
        """The state directory was deleted, and made again: write down there what runs, and end what runs on data that
        is gone."""
        try:
            self.pidfile.move()
        except OSError as error:
            self.note(EventName.RECORD_NOT_WRITTEN, f"{error.strerror}; its mark still tells it")
        if self.state in ALIVE and self.data_lock is not None and not self.data_lock.is_at_its_path():
            self.condemn(Cause.RECYCLED, "its data directory was deleted while it ran")

    def apply(self, definition: Definition) -> None:
        """Take over a definition that differs in policies only: the process is left alone."""
        self.definition = definition
        self.log.limits = definition.log
        if self.state is State.EXTERNAL:
            self._stop_probing()
            if definition.enabled:
                self.observe()
            else:
                self.external_ready = False
        elif self.state is State.RUNNING:
            self._stop_probing()
            self._probing = self._task(watching.await_ready(self))
        elif self.state in (State.READY, State.DEGRADED):
            if self._stable is not None:
                self._stable.cancel()
                self._stable = self._later(definition.restart.stable_s, self.history.forget)
            self._stop_probing()
            self._guard()
            if not definition.live:
                self.handle(Event.PASS, "no longer probed")

    # What is known of it

    @property
    def ready(self) -> bool:
        """Usable now, as far as the last probe says."""
        if self.state is State.EXTERNAL:
            return self.external_ready
        return self.state is State.READY and not self._dead

    @property
    def url(self) -> str | None:
        """Where it is reached, as its definition says or by its first port."""
        definition = self.definition
        if definition.external:
            return definition.external
        if definition.url is not None:
            with contextlib.suppress(UnknownReference):  # its ports are not settled yet
                return expand(definition.url, self._values_before_url())
            return None
        if not self.ports.numbers:
            return None
        host = f"[{definition.host}]" if ":" in definition.host else definition.host
        scheme = "http" if any(isinstance(probe, HttpProbe) for probe in definition.ready) else "tcp"
        return f"{scheme}://{host}:{next(iter(self.ports.numbers.values()))}"

    def values(self) -> Mapping[str, str]:
        """Everything that this daemon's strings can refer to, as things are when it is looked up."""
        return _Values(self)

    def values_for_others(self) -> dict[str, str]:
        """What theirs can refer to, as ``daemons.NAME.…``."""
        return {**self._own_values(), "url": self.url or ""}

    def values_of_its_own(self) -> dict[str, str]:
        """What its own can refer to of itself, and of the project."""
        url = self.url
        return {**self._values_before_url(), **({"url": url} if url is not None else {})}

    def _values_before_url(self) -> dict[str, str]:
        return {**self.site.values, **self._own_values()}

    def _own_values(self) -> dict[str, str]:
        values = {"name": self.name, "host": self.definition.host, "log_path": str(self.log.path)}
        for name, port in self.ports.numbers.items():
            values.setdefault("port", str(port))
            values[f"ports.{name}"] = str(port)
        if self.definition.data_dir is not None:
            values["data_dir"] = self.definition.data_dir
        return values

    def environment(self, launch_env: Mapping[str, str], mark: Mark) -> dict[str, str]:
        """That of its processes: what all daemons inherit, what its catalog entry and its definition say, its mark."""
        stated = expand_all({**launch_env, **self.definition.env}, self.values())
        return {**self.site.env, **stated, MARK_VARIABLE: str(mark)}

    def _mains_of_others(self) -> set[int]:
        mains = [other.tree.main for other in self.site.daemons.values() if other is not self]
        return {main.pid for main in mains if main is not None and main.is_alive()}

    def _ports_of_others(self) -> set[int]:
        others = (other for other in self.site.daemons.values() if other is not self)
        return {number for other in others for number in other.ports.numbers.values()}

    @property
    def age_s(self) -> float:
        """Seconds since the spawn, by an earlier supervisor too. The wall clock, which may be set, has no say in it."""
        return self._age_before_s + (time.monotonic() - self._taken_at if self._taken_at is not None else 0.0)

    @property
    def next_try_s(self) -> float | None:
        """Seconds until it is tried again, in backoff or parked."""
        return max(self._delay.when() - asyncio.get_running_loop().time(), 0.0) if self._delay is not None else None

    def status(self, usage: Usage | None) -> DaemonStatus:
        """What is known of it now; nothing is looked up but what is passed in."""
        main = self.tree.main
        return DaemonStatus(
            name=self.name,
            state=self.state.public,
            ready=self.ready,
            pid=main.pid if main is not None else None,
            url=self.url,
            ports=dict(self.ports.numbers),
            restarts=self.restarts,
            uptime_s=round(self.age_s, 3) if main is not None else None,
            cpu_percent=self._meter.percent(usage.cpu_s, self.age_s) if usage is not None else None,
            rss_bytes=usage.rss_bytes if usage is not None else None,
            log_path=str(self.log.path),
            data_dir=self.definition.data_dir,
            last_exit=self.last_exit,
            detail=self.detail,
            remedy=self._remedy,
            note=self._note(),
            held=self.held,
            waiting_for=self.waiting_for,
            requires=self.definition.requires,
            enabled=self.definition.enabled,
            adopted=self.adopted and main is not None,
            version=self._launch.version if self._launch is not None else None,
            env=self.exports(),
            ready_after_s=self.ready_after_s,
            after=self.definition.after,
        )

    def _note(self) -> str | None:
        notes = [self._launch.note] if self._launch is not None and self._launch.note else []
        if self.log.lost:
            notes.append(f"{self.log.path} {LOST}; restart it to have a log again")
        return "; ".join(notes) or None

    def telling_lines(self, count: int) -> tuple[list[str], int | None]:
        """The last lines of the run that explains the state, without our own requests: the present one while it is
        up or has not failed yet, else the one that has ended; its process then, if there was one."""
        span = Span(None, self._log_start, self.log.end)
        up = self.tree.main is not None and not self._dead and self.state is not State.RUNNING
        on_its_way = self.state in (State.STARTING, State.RUNNING) and not self.history.failures
        if self.ended is not None and not (up or on_its_way or self.state is State.EXTERNAL):
            span = self.ended
        return self._lines(span, count), span.pid

    def _lines(self, span: Span, count: int) -> list[str]:
        lines = self.log.tail(count + OWN_REQUESTS, span.start, span.end)
        probes = [*self.definition.ready, *self.definition.live]
        with contextlib.suppress(UnknownReference):  # of a daemon that is not there any more
            probes = [expand_all(probe, self.values()) for probe in probes]
        return ([*without_requests_of(probes, lines)] or lines)[-count:]

    def exports(self) -> dict[str, str]:
        """What a program that uses the daemon needs in its environment."""
        with contextlib.suppress(UnknownReference):  # its ports are not settled yet
            exports: dict[str, str] = expand_all(self.definition.exports, self.values())
            return exports
        return {}

    # The machine

    def handle(
        self, event: Event, detail: str | None = None, remedy: str | None = None, *, cause: Cause | None = None
    ) -> None:
        """Something has happened: go to the next state, and do what belongs to that.

        Raises:
            Refused: an operator asked for what cannot be.
        """
        before = self.state
        state, actions = step(before, event)
        if state is before and not actions:
            return
        self.state, self.detail, self._remedy, self.cause = state, detail, remedy, cause
        if state is State.READY:
            self.has_been_ready = self._was_ready = True
            self.vain_starts = 0
            if before is State.RUNNING and not self.adopted:
                self.ready_after_s = round(self.age_s, 3)
        self.since = time.time()
        self.overdue = False
        if state is State.CYCLING and event in (Event.START, Event.RESTART):
            self._cause = Cause.OPERATOR
        self._cancel_stable()
        if state is State.READY:
            self._stable = self._later(self.definition.restart.stable_s, self.history.forget)
        if state in (State.STOPPED, State.HELD, State.PARKED, State.UNAVAILABLE):
            self._release_data()
        pid = self.tree.main.pid if self.tree.main is not None else None
        self.note(EventName(state.public), detail, pid, cause)
        for action in actions:
            self._act(action)
        self.site.changed.notify()

    def _act(self, action: Action) -> None:
        match action:
            case Action.PREPARE:
                self._cause = Cause.EXIT
                self._starting = self._task(self._prepare())
            case Action.WATCH:
                self._probing = self._task(watching.await_ready(self))
            case Action.GUARD:
                self._guard()
            case Action.END:
                self._end()
            case Action.WAIT:
                if self._verdict is not None and self._verdict.delay_s is not None:
                    self._delay = self._later(self._verdict.delay_s, self._due)
            case Action.CANCEL:
                self._cancel_delay()
            case Action.FORGET:
                self.history.forget()
            case Action.UNHOLD:
                self.held = False
                self.site.save_intentions()

    def condemn(self, cause: Cause, why: str) -> None:
        """A probe or a limit says that this run must end."""
        self._cause = cause
        self.handle(Event.CONDEMN, why, cause=cause)

    def _due(self) -> None:
        self._delay = None
        if not self._leaving:
            self.handle(Event.DUE)

    def _guard(self) -> None:
        definition = self.definition
        if definition.live or definition.max_runtime_s or definition.max_rss_bytes:
            self._probing = self._task(watching.guard(self))

    # A run begins

    async def _prepare(self) -> None:
        self._log_start = self.log.end
        try:
            await self._wait_for_orphans()
            resolved = self.site.resolve(self.definition)
            self._launch = resolved if isinstance(resolved, Launch) else None
            # Only the first start can find survivors: later ones follow an end that was seen.
            first = not self._looked_for_survivors
            if first and await starting.adopt(self, resolved):
                self._looked_for_survivors = True
                return
            self._looked_for_survivors = True
            if isinstance(resolved, Unavailable):
                self.handle(Event.MISSING, resolved.reason, resolved.remedy)
                return
            if first and self.held:
                self._conclude(Cause.EXIT, clean=True, text="not started")
                return
            await self._wait_for_others()
            async with self.site.gate:
                await starting.spawn(self, resolved)
                await self.wait_for(lambda daemon: daemon.state is not State.RUNNING, GATE_S)
        except starting.StartRefused as error:
            why = f"cannot start {self.name}: {error}"
            self.ended = Span(None, self._log_start, self.log.end)
            self._verdict = Verdict(Event.PARK, revival_s(self.definition.restart), why)
            self.handle(Event.REFUSED, why, cause=Cause.REFUSED)
        except (OSError, ProvisionFailed, ValueError) as error:
            self._start_failed(_describe(error))

    async def _wait_for_orphans(self) -> None:
        while orphans := self.site.ending_orphans:
            names = ", ".join(orphan.name for orphan in orphans)
            self.progress(f"waiting for the end of {names}, which is no longer configured to run")
            await self.site.changed.wait()
        self.progress(None)

    async def _wait_for_others(self) -> None:
        def unmet() -> tuple[Daemon, str] | None:
            for name in self.definition.requires:
                other = self.site.daemons.get(name)
                if other is not None and not other.ready:
                    return other, "requires"
            for name in self.definition.after:
                other = self.site.daemons.get(name)
                if other is not None and other.state in (State.STARTING, State.RUNNING):
                    return other, "after"
            return None

        try:
            while (found := unmet()) is not None:
                other, why = found
                self.waiting_for = other.name
                self.progress(f"waiting for {other.name}, which is {other.state.public} ({why})")
                await self.site.changed.wait()
        finally:
            self.waiting_for = None
        self.progress(None)

    def hold(self, process: Process) -> None:
        """`process` is the daemon now: watch over it."""
        self._dead = False
        self._oom_before = self.site.platform.oom_kills()
        self.tree.hold(process, self._on_exit, self._learned)

    def spawned(self, record: DaemonRecord, *, adopted: bool) -> None:
        """The process that is held is running."""
        self.adopted = adopted
        self._followed = False
        self._taken_at = time.monotonic()
        main = self.tree.main
        self._age_before_s = self.site.platform.age_s(main.identity) if adopted and main is not None else 0.0
        self._meter = CpuMeter()
        # An earlier supervisor counted for itself, and the log may have been rotated or emptied since.
        self._log_start = 0 if adopted and record.log_offset > self.log.size else record.log_offset
        self.log.inode = record.log_inode
        self.target = self._new_target(self._log_start)
        if adopted and self.age_s > self.definition.start_grace_s:
            self.target.heard.update(self.ports.numbers.values())
        self.handle(Event.SPAWNED, "adopted" if adopted else None, cause=Cause.ADOPTED if adopted else None)

    def _new_target(self, log_start: int) -> Target:
        definition = self.definition
        launch_env = self._launch.env if self._launch is not None else {}
        env = self.environment(launch_env, self.site.ownership.mark(self.site.token, self.name))
        numbers = self.ports.numbers
        target = Target(definition.host, numbers, env, definition.cwd, self.log, log_start, {})
        target.stranger = self._stranger
        return target

    def _stranger(self) -> str | None:
        main = self.tree.main
        found = self.ports.stranger(main.pid, self._owns) if main is not None else None
        return f"port {found[0]} is answered by {found[1]}, not by {self.name}" if found is not None else None

    def _owns(self, pid: int) -> bool:
        return self.site.ownership.owns(pid, self.name)

    def _start_failed(self, why: str) -> None:
        self.ended = Span(None, self._log_start, self.log.end)
        self._conclude(Cause.START_FAILED, clean=False, text=f"cannot start {self.name}: {why}")

    # A run ends

    def _on_exit(self, status: ExitStatus) -> None:
        main = self.tree.main
        assert main is not None
        text = str(status)
        self._dead = True
        if status.signal == "SIGKILL" and self.state in ALIVE:
            kills = self.site.platform.oom_kills()
            if kills is not None and self._oom_before is not None and kills > self._oom_before:
                text += "; the kernel killed for want of memory meanwhile: probably this process"
        self.last_exit = Exit(code=status.code, signal=status.signal, at=time.time(), pid=main.pid, text=text)
        self.note(EventName.EXIT, text, main.pid, self._cause_of_exit(status))
        self._stop_probing()
        self._cancel_stable()
        if self.state in ALIVE:
            self._end()
        self.site.changed.notify()

    def _cause_of_exit(self, status: ExitStatus) -> Cause | None:
        if self.state not in ALIVE:
            return self.cause  # of the order, or verdict, that is being carried out
        if self._cause is Cause.EXIT and status.signal is not None:
            self._cause = Cause.SIGNAL
        return self._cause

    def _learned(self, pid: int, status: ExitStatus) -> None:
        """The kernel has told how an adopted process ended, after it was reported."""
        last = self.last_exit
        if last is not None and last.pid == pid and last.code is None and last.signal is None:
            text = str(status)
            self.last_exit = Exit(code=status.code, signal=status.signal, at=last.at, pid=pid, text=text)
            self.note(EventName.EXIT_LEARNED, text, pid)

    def _end(self) -> None:
        if self._ending is None:
            self._ending = self._task(self._finish())

    async def _finish(self) -> None:
        """End whatever there is of this daemon, and say what follows."""
        unprompted = self.state in ALIVE
        main = self.tree.main
        try:
            self._stop_probing()
            await self._give_up_start()
            if unprompted and self._follow():
                return
            await self.tree.end(self.definition.stop)
            self.clear_record()
            if main is not None:
                self.ended = Span(main.pid, self._log_start, self.log.end)
                self.log.inode = None
            with contextlib.suppress(OSError):
                self.lost_its_port = self.ports.held()
        finally:
            self._ending = None
        last = self.last_exit
        text = last.text if last is not None else "not started"
        if unprompted and self.ended is not None and main is not None:
            lines = filter(str.strip, reversed(self._lines(self.ended, LAST_LINES)))
            last_line = next(lines, None)
            text = f"{text}; last line: {last_line[:200]}" if last_line is not None else text
        if self._cause in (Cause.PROBE, Cause.RECYCLED):
            text = self.detail or text
        cause = Cause.OPERATOR if self.state is State.STOPPING else self._cause
        self._conclude(cause, clean=last is not None and last.code == 0, text=text)

    def _conclude(self, cause: Cause, *, clean: bool, text: str) -> None:
        if self._leaving:
            return
        self._verdict = decide(
            self.definition.restart,
            self.history,
            cause=cause,
            clean=clean,
            held=self.held,
            detail=text,
            now=asyncio.get_running_loop().time(),
            rng=self.site.rng,
        )
        self._cause = Cause.EXIT
        if cause in (Cause.EXIT, Cause.SIGNAL, Cause.PROBE, Cause.START_FAILED) and not self._was_ready:
            self.vain_starts += 1
            self._doubt_provisions()
        self._was_ready = False
        if self._verdict.event is Event.RETRY and cause is not Cause.OPERATOR:
            self.restarts += 1
        told = self.cause or cause if cause is Cause.OPERATOR else cause
        self.handle(self._verdict.event, self._verdict.reason, cause=told)

    def _doubt_provisions(self) -> None:
        for provision in self._launch.provisions if self._launch is not None else ():
            self.site.tried.discard(provision.target)
            doubt(provision)

    async def _give_up_start(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        self._starting = None

    def _follow(self) -> bool:
        """A launcher that forks and exits leaves the daemon itself behind: follow that, if there is one."""
        record = self.pidfile.record
        last = self.last_exit
        if record is None or last is None or last.signal is not None:
            return False
        # What we followed may have been one more of a launcher's forks; and as it is not our child, its exit code
        # may not be known yet.
        if last.code != 0 and not (self._followed and last.code is None):
            return False
        # Without a readiness probe it was ready at once; then its age tells a launcher from a daemon that has ended.
        by_age = self._followed or not self.definition.ready
        if self.state is not State.RUNNING and not (by_age and self.age_s < LAUNCHER_S):
            return False
        left = self.site.ownership.of_run(record)
        if not left:
            return False
        main, *others = left
        for other in others:
            other.close()
        self.note(EventName.FOLLOWED, "the command forked and exited; following what it left", main.pid)
        self.tree.let_go()
        self.hold(main)
        self._followed = True
        with contextlib.suppress(OSError):  # the intent leads to it all the same
            self.pidfile.establish(main.pid, main.identity)
        if self.state is State.RUNNING:
            self._probing = self._task(watching.await_ready(self))
        elif self.state in ALIVE:
            self._guard()
        return True

    def clear_record(self) -> None:
        """Nothing of the daemon lives. If that is not so, as it could not be ended, the record goes on to prove it."""
        if not self.site.ownership.is_lock_free(self.name):
            return
        try:
            self.pidfile.clear()
        except OSError as error:
            self.note(EventName.RECORD_NOT_REMOVED, _describe(error))

    def _release_data(self) -> None:
        if self.data_lock is not None:
            self.data_lock.release()
            self.data_lock = None

    # Small things

    def progress(self, detail: str | None) -> None:
        """Something to show while a state lasts; not for the journal."""
        if detail != self.detail:
            self.detail = detail
            self.site.changed.notify()

    def note(
        self, event: EventName, detail: str | None = None, pid: int | None = None, cause: Cause | None = None
    ) -> None:
        """Tell the journal."""
        self.site.journal.add(event, daemon=self.name, state=self.state.public, pid=pid, detail=detail, cause=cause)

    def remember(self, result: Result) -> None:
        """Keep a probe's result, on change only: ten thousand healthy polls add nothing. The first time in a run that
        a probe cannot tell, the journal says why."""
        if result.answer is Answer.UNKNOWN and self.target is not None and "unknown" not in self.target.memory:
            self.target.memory["unknown"] = True
            self.note(EventName.PROBE_UNKNOWN, result.detail)
        if not self.probe_results or self.probe_results[-1][1] != result:
            self.probe_results.append((time.time(), result))

    def _later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def _cancel_stable(self) -> None:
        if self._stable is not None:
            self._stable.cancel()
            self._stable = None

    def _cancel_delay(self) -> None:
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None

    def _stop_probing(self) -> None:
        if self._probing is not None and self._probing is not asyncio.current_task():
            self._probing.cancel()
        self._probing = None

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._surviving(work))

    async def _surviving(self, work: Awaitable[None]) -> None:
        """A fault of ours must not leave the daemon in a state that nothing will ever change."""
        try:
            await work
        except Exception as error:
            faults.report(f"daemon {self.name}", error)
            self.note(EventName.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
            if self.state is State.STARTING:
                self._start_failed(f"internal error: {error}")
            elif not self._leaving:
                self._later(REPAIR_S, self._repair)

    def _repair(self) -> None:
        """After a fault (no descriptor left, say) take up again what it cut off."""
        if self._leaving:
            return
        main = self.tree.main
        alive = main is not None and not self._dead
        if self.state in (State.STOPPING, State.CYCLING) or (self.state in ALIVE and not alive):
            self._end()
        elif self.state is State.EXTERNAL:
            self.observe()
        elif self.state is State.RUNNING and self._ending is None:
            self._stop_probing()
            self._probing = self._task(watching.await_ready(self))
        elif self.state in ALIVE and self._ending is None:
            self._stop_probing()
            self._guard()


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
