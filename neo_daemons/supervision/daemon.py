"""Drives one daemon: feeds what happens to the lifecycle table and carries out its actions.

Events are handled at once and never wait; whatever takes time (a start, a stop, probing) is a task that answers with
an event. At most one start and one end are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from neo_daemons.definitions import AnyProbe, Definition, HttpProbe, Launch, Unavailable, fingerprint
from neo_daemons.records import DaemonRecord
from neo_daemons.references import expand, expand_all
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus, Exit

from .broadcast import Broadcast
from .journal import Journal
from .logs import DaemonLog
from .machine import ALIVE, Action, Event, Refused, State, step
from .pidfile import PidFile, find_living
from .platform import MARK_VARIABLE, ExitStatus, Lock, Mark, Platform, Process, SpawnSpec, Unverifiable, Usage
from .policy import Cause, History, Verdict, decide, may_kill
from .probes import Prober, Result, Target
from .provision import ProvisionFailed, Runner

POLL_SHARE = 0.015
"""Readiness is asked again after this share of the time it has taken so far: detection costs less than 2 % of any
boot, however long."""
POLL_FLOOR_S, POLL_CEILING_S = 0.01, 1.0
ADOPTED_GRACE_S = 30.0
"""An adopted daemon has had its time to start: it must answer within this, or is started anew."""
GATE_S = 5.0
"""A start counts as under way for this long at most, so that one slow daemon does not keep others waiting."""
SWEEP_GRACE_S = 3.0
"""Leftovers of a run that has ended get this long between SIGTERM and SIGKILL."""
SWEEP_POLL_S = 0.02
LIMITS_INTERVAL_S = 10.0
"""How often max_runtime_s and max_rss_bytes are looked at where no liveness probe sets a pace."""
DATA_LOCK = ".neo-daemons.lock"
"""In a data directory: held by the daemon that uses it, and by its supervisor."""


class StartRefused(Exception):
    """A start that must not be: ``str()`` says why and what to do."""


class Site:
    """What the daemons of one supervisor share."""

    def __init__(
        self,
        *,
        platform: Platform,
        state: StateDir,
        journal: Journal,
        prober: Prober,
        resolve: Callable[[Definition], Launch | Unavailable],
        values: Mapping[str, str],
        env: Mapping[str, str],
        parallel: int,
        rng: random.Random,
    ) -> None:
        self.platform = platform
        self.state = state
        self.journal = journal
        self.prober = prober
        self.resolve = resolve
        self.values = values
        self.env = env
        self.gate = asyncio.Semaphore(parallel)
        self.rng = rng
        self.changed = Broadcast()
        self.daemons: dict[str, Daemon] = {}
        self.save_intentions: Callable[[], None] = lambda: None
        self.inhibited: Callable[[str], bool] = lambda name: False
        self.leftovers: dict[str, list[Process]] = {}
        """Marked processes found when the supervisor started, by daemon."""


class Daemon:
    """One daemon under supervision."""

    def __init__(self, definition: Definition, site: Site) -> None:
        self.definition = definition
        self.name = definition.name
        self.site = site
        self.state = State.EXTERNAL if definition.external else State.STOPPED
        self.since = time.time()
        self.detail: str | None = None
        self.remedy: str | None = None
        self.note: str | None = None
        self.version: str | None = None
        self.held = False
        self.adopted = False
        self.restarts = 0
        self.last_exit: Exit | None = None
        self.external_ready = False
        self.history = History()
        self.verdict: Verdict | None = None
        self.probe_results: deque[tuple[float, Result]] = deque(maxlen=20)
        self.log = DaemonLog(site.state.daemon_log(self.name), definition.log)
        self.pidfile = PidFile(site.state.daemon_record(self.name))
        self.process: Process | None = None
        self.ports: dict[str, int] = {}
        self.target: Target | None = None
        self.ready_after_s: float | None = None
        """From the spawn to readiness, of the present run."""
        self._looked = False
        self._cause = Cause.EXIT
        self._spawned_at: float | None = None
        self._age_before_s = 0.0
        self._oom_before: int | None = None
        self._exited: asyncio.Future[ExitStatus] | None = None
        self._hurry: asyncio.Event = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._delay: asyncio.TimerHandle | None = None
        self._due_at: float | None = None
        self._stable: asyncio.TimerHandle | None = None
        self._data_lock: Lock | None = None
        self._cpu_sample: tuple[float, float] | None = None

    # What others ask of it

    def load(self) -> None:
        """Read the record of an earlier supervisor and settle the ports. To be called before any start."""
        try:
            fault = self.pidfile.load()
        except OSError as error:
            fault = f"{self.pidfile.path} cannot be read: {error.strerror}"
        if fault is not None:
            self._note("record-damaged", fault)
        record = self.pidfile.record
        if record is not None:
            self.restarts = record.restarts
        self._settle_ports(record.ports if record is not None else {})

    def order(self, event: Event, reason: str | None = None) -> None:
        """Carry out a wish: START, STOP, RESTART, HOLD or RELEASE. Returns at once; the outcome shows in `state`.

        Raises:
            Refused: it cannot be done; says why.
        """
        if event in (Event.HOLD, Event.RELEASE):
            if self.state is State.EXTERNAL:
                step(self.state, event)
            if self.held != (event is Event.HOLD):
                self.held = event is Event.HOLD
                self.site.save_intentions()
                self._note(event.value)
        self._handle(event, reason)

    def observe(self) -> None:
        """Begin to look after an external daemon."""
        if self.definition.external and self._probing is None:
            self.target = self._new_target(0)
            self._probing = self._task(self._observe())

    def hurry(self) -> None:
        """Cut the grace of a stop that is under way, or comes: SIGKILL now."""
        self._hurry.set()

    async def end_leftovers(self) -> None:
        """End what an earlier supervisor left of a daemon that is no longer configured."""
        await self._sweep()
        self._clear_record()
        self._note("orphan-ended")

    def keep_ports(self, previous: Mapping[str, int]) -> None:
        """Take over the ports of the daemon that this one replaces, where they are not fixed."""
        self._settle_ports(previous)

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

    async def detach(self) -> None:
        """Let go of the daemon and leave it running, for another supervisor to adopt."""
        tasks = [task for task in (self._starting, self._probing) if task is not None]
        if self.state not in (State.STOPPING, State.CYCLING):
            tasks += [self._ending] if self._ending is not None else []
        self._cancel_timers()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ending is not None:
            await asyncio.gather(self._ending, return_exceptions=True)
        if self.process is not None:
            self.process.close()
            self.process = None
        self._release_data()

    @property
    def ready(self) -> bool:
        """Usable now, as far as the last probe says."""
        return self.state is State.READY or (self.state is State.EXTERNAL and self.external_ready)

    @property
    def url(self) -> str | None:
        """Where it is reached, by its first port or as its definition says."""
        definition = self.definition
        if definition.external:
            return definition.external
        if definition.url is not None:
            return expand(definition.url, {**self.site.values, **self.own_values()})
        if not self.ports:
            return None
        host = f"[{definition.host}]" if ":" in definition.host else definition.host
        scheme = "http" if any(isinstance(probe, HttpProbe) for probe in definition.ready) else "tcp"
        return f"{scheme}://{host}:{next(iter(self.ports.values()))}"

    def own_values(self) -> dict[str, str]:
        """What references can name of this daemon."""
        values = {"name": self.name, "host": self.definition.host, "log_path": str(self.log.path)}
        for name, port in self.ports.items():
            values[f"ports.{name}"] = str(port)
        if self.ports:
            values["port"] = str(next(iter(self.ports.values())))
        if self.definition.data_dir is not None:
            values["data_dir"] = self.definition.data_dir
        return values

    def values(self) -> dict[str, str]:
        """Everything that this daemon's strings can refer to."""
        values = {**self.site.values, **self.own_values()}
        for other in self.site.daemons.values():
            if other is not self:
                theirs = {**other.own_values(), "url": other.url or ""}
                values |= {f"daemons.{other.name}.{key}": value for key, value in theirs.items()}
        return values

    def status(self, usage: Usage | None) -> DaemonStatus:
        """What is known of it now; nothing is looked up but what is passed in."""
        now = time.monotonic()
        alive = self.process is not None and self.state in (*ALIVE, State.STOPPING, State.CYCLING)
        cpu_percent = None
        if usage is not None and alive:
            before = self._cpu_sample or (self._spawned_at or now, 0.0)
            elapsed = now - before[0]
            cpu_percent = round(100 * max(usage.cpu_s - before[1], 0.0) / elapsed, 1) if elapsed > 0 else 0.0
            self._cpu_sample = (now, usage.cpu_s)
        return DaemonStatus(
            name=self.name,
            state=self.state.public,
            ready=self.ready,
            pid=self.process.pid if alive and self.process else None,
            url=self.url,
            ports=dict(self.ports),
            restarts=self.restarts,
            uptime_s=round(self._age_s(), 3) if alive else None,
            cpu_percent=cpu_percent,
            rss_bytes=usage.rss_bytes if usage is not None and alive else None,
            log_path=str(self.log.path),
            data_dir=self.definition.data_dir,
            last_exit=self.last_exit,
            detail=self.detail,
            remedy=self.remedy,
            note=self.note,
            held=self.held,
            adopted=self.adopted and alive,
            version=self.version,
            env=self.exports(),
        )

    def exports(self) -> dict[str, str]:
        """The environment that its users need; empty while its ports are not known."""
        with contextlib.suppress(ValueError):
            exports: dict[str, str] = expand_all(self.definition.exports, self.values())
            return exports
        return {}

    @property
    def next_try_s(self) -> float | None:
        """Seconds until it is tried again, in backoff or parked."""
        if self._due_at is None:
            return None
        return max(self._due_at - asyncio.get_running_loop().time(), 0.0)

    def apply(self, definition: Definition) -> None:
        """Take over a definition that differs in policies only: the process is left alone."""
        self.definition = definition
        self.log.limits = definition.log
        if self.state in (State.READY, State.DEGRADED):
            self._stop_probing()
            self._act(Action.GUARD)

    # The machine

    def _handle(self, event: Event, detail: str | None = None, remedy: str | None = None) -> None:
        before = self.state
        state, actions = step(before, event)
        if state is before and not actions:
            return
        self.state = state
        self.detail, self.remedy = detail, remedy
        self.since = time.time()
        if state is State.CYCLING and event in (Event.START, Event.RESTART):
            self._cause = Cause.OPERATOR
        if before is State.READY or state is not State.READY:
            self._cancel_stable()
        if state is State.READY:
            self._stable = self._later(self.definition.restart.stable_s, self._been_stable)
        if state in (State.STOPPED, State.HELD, State.PARKED, State.UNAVAILABLE):
            self._release_data()
        pid = self.process.pid if self.process is not None else None
        self.site.journal.add(state.public, daemon=self.name, state=state.public, pid=pid, detail=detail)
        for action in actions:
            self._act(action)
        self.site.changed.notify()

    def _act(self, action: Action) -> None:
        match action:
            case Action.PREPARE:
                self._cause = Cause.EXIT
                self._hurry.clear()
                self._starting = self._task(self._prepare())
            case Action.WATCH:
                self._probing = self._task(self._await_ready())
            case Action.GUARD:
                if self.definition.live or self.definition.max_runtime_s or self.definition.max_rss_bytes:
                    self._probing = self._task(self._guard())
            case Action.END:
                self._end()
            case Action.WAIT:
                delay = self.verdict.delay_s if self.verdict is not None else None
                if delay is not None:
                    self._due_at = asyncio.get_running_loop().time() + delay
                    self._delay = self._later(delay, self._due)
            case Action.CANCEL:
                self._cancel_delay()
            case Action.FORGET:
                self.history.forget()
            case Action.UNHOLD:
                self.held = False
                self.site.save_intentions()

    def _due(self) -> None:
        if self.state is State.BACKOFF:
            self.restarts += 1
        self._cancel_delay()
        self._handle(Event.DUE)

    def _been_stable(self) -> None:
        self._stable = None
        self.history.forget()

    # Starting

    async def _prepare(self) -> None:
        try:
            resolved = self.site.resolve(self.definition)
            if isinstance(resolved, Launch):
                self.note, self.version = resolved.note, resolved.version
            if await self._adopt(resolved):
                return
            if isinstance(resolved, Unavailable):
                self._handle(Event.MISSING, resolved.reason, resolved.remedy)
                return
            if self.held:
                self._conclude(Cause.EXIT, clean=True, text="not started")
                return
            await self._wait_for_others()
            async with self.site.gate:
                await self._spawn(resolved)
                await self.wait_for(lambda daemon: daemon.state is not State.RUNNING, GATE_S)
        except StartRefused as error:
            revive_s = self.definition.restart.revive_s or None
            self.verdict = Verdict(Event.PARK, revive_s, str(error))
            self._handle(Event.REFUSED, str(error))
        except (OSError, ProvisionFailed, ValueError) as error:
            self._start_failed(_describe(error))

    def _start_failed(self, why: str) -> None:
        self._conclude(Cause.START_FAILED, clean=False, text=f"cannot start {self.name}: {why}")

    async def _adopt(self, resolved: Launch | Unavailable) -> bool:
        """Take over a survivor of an earlier supervisor, or end what is left of one. Only the first start finds
        any: later ones follow an end that was seen."""
        if self._looked:
            return False
        self._looked = True
        site = self.site
        record = self.pidfile.record
        leftovers = site.leftovers.pop(self.name, [])
        process: Process | None = None
        if record is not None:
            try:
                process, stranger = find_living(site.platform, record, site.state.path)
            except Unverifiable as error:
                self._looked = False
                raise StartRefused(f"cannot start {self.name}: {error}; end it by hand, then start {self.name}") from None
            if stranger is not None:
                self._note("record-foreign", f"{stranger}; it is left alone")
        for leftover in leftovers:
            leftover.close()
        if process is None or record is None:
            if leftovers:
                self._note("leftovers", f"{len(leftovers)} processes of an earlier run")
            await self._sweep()
            self.pidfile.clear()
            return False
        self.ports = dict(record.ports)
        changed = isinstance(resolved, Launch) and fingerprint(self.definition, resolved) != record.fingerprint
        if record.pid is None:
            record = self.pidfile.establish(process.pid, process.identity)
        self._hold(process)
        if changed:
            self._note("replaced", f"pid {process.pid} was started from another definition", process.pid)
            await self._end_tree()
            self.pidfile.clear()
            self._settle_ports(record.ports)
            return False
        self._take(record.log_offset, adopted=True)
        return True

    async def _wait_for_others(self) -> None:
        def unmet() -> str | None:
            for name in self.definition.requires:
                other = self.site.daemons.get(name)
                if other is not None and not other.ready:
                    return f"waiting for {name}, which is {other.state.public} (requires)"
            for name in self.definition.after:
                other = self.site.daemons.get(name)
                if other is not None and other.state in (State.STARTING, State.RUNNING):
                    return f"waiting for {name}, which is {other.state.public} (after)"
            return None

        while (waiting := unmet()) is not None:
            self._progress(waiting)
            await self.site.changed.wait()
        self._progress(None)

    async def _spawn(self, launch: Launch) -> None:
        site, definition = self.site, self.definition
        self._settle_ports(self.ports)
        mark = Mark(secrets.token_hex(16), self.name, str(site.state.path))
        values = self.values()
        env = self._environment(launch, values, mark)
        runner = Runner(site.platform, env, self.log.open, self.log.path, self._progress)
        for provision in launch.provisions:
            await runner.provide(provision)
        self._check_ports()
        values = self.values()
        env = self._environment(launch, values, mark)
        cwd = definition.cwd
        inherited: list[Lock] = []
        if definition.data_dir is not None:
            data_dir = Path(definition.data_dir)
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            inherited.append(self._lock_data(data_dir))
            for step_ in launch.before:
                await runner.run(expand_all(step_, values), data_dir)
        for stale in launch.stale_files:
            Path(expand(stale, values)).unlink(missing_ok=True)
        self._progress(None)

        lock = site.platform.lock(site.state.daemon_lock(self.name))
        if lock is None:
            raise StartRefused(
                f"cannot start {self.name}: a process of an earlier run still holds "
                f"{site.state.daemon_lock(self.name)} and cannot be told; see doctor"
            )
        output = -1
        try:
            output = self.log.open()
            record = DaemonRecord(
                name=self.name,
                token=mark.token,
                fingerprint=fingerprint(definition, launch),
                command=tuple(expand_all(launch.command, values)),
                ports=dict(self.ports),
                url=self.url,
                data_dir=definition.data_dir,
                log_path=str(self.log.path),
                spawned_at=time.time(),
                log_offset=self.log.end,
                restarts=self.restarts,
            )
            self.pidfile.intend(record)
            inherit = [lock.fileno(), *(held.fileno() for held in inherited)]
            try:
                process = site.platform.spawn(SpawnSpec(record.command, env, cwd, output, inherit))
            except OSError:
                self.pidfile.clear()
                raise
        finally:
            # From here on the daemon's own processes hold it, and it tells when the last of them is gone.
            lock.release()
            if output >= 0:
                with contextlib.suppress(OSError):
                    os.close(output)
        self._hold(process)
        try:
            self.pidfile.establish(process.pid, process.identity)
        except OSError as error:
            self._note("record-not-written", f"{_describe(error)}; its mark still tells it", process.pid)
        self._take(record.log_offset, adopted=False)

    def _environment(self, launch: Launch, values: Mapping[str, str], mark: Mark) -> dict[str, str]:
        stated = expand_all({**launch.env, **self.definition.env}, values)
        return {**self.site.env, **stated, MARK_VARIABLE: str(mark)}

    def _lock_data(self, data_dir: Path) -> Lock:
        if self._data_lock is None:
            path = data_dir / DATA_LOCK
            self._data_lock = self.site.platform.lock(path, f"daemon {self.name} of {self.site.state.path}\n")
            if self._data_lock is None:
                with contextlib.suppress(OSError):
                    holder = path.read_text(errors="replace").strip()[:300]
                    raise StartRefused(
                        f"cannot start {self.name}: its data directory {data_dir} is in use by {holder}; "
                        f"stop that, or set daemons.{self.name}.data_dir"
                    )
                raise StartRefused(f"cannot start {self.name}: its data directory {data_dir} is in use")
        return self._data_lock

    def _release_data(self) -> None:
        if self._data_lock is not None:
            self._data_lock.release()
            self._data_lock = None

    def _settle_ports(self, previous: Mapping[str, int]) -> None:
        """Give every port a number: the fixed one, else the one it had, else a free one. Whether it can be had is
        looked at before the spawn."""
        taken = {
            port for other in self.site.daemons.values() if other is not self for port in other.ports.values()
        }
        ports: dict[str, int] = {}
        for name, port in self.definition.ports.items():
            if port.fixed is not None:
                ports[name] = port.fixed
            elif name in previous and previous[name] not in taken:
                ports[name] = previous[name]
            else:
                ports[name] = self._free_port(port.preferred, taken | set(ports.values()))
        self.ports = ports

    def _free_port(self, preferred: int | None, taken: set[int]) -> int:
        platform, host = self.site.platform, self.definition.host
        if preferred is not None and preferred not in taken and platform.port_is_free(host, preferred):
            return preferred
        while (port := platform.free_port(host)) in taken:
            pass
        return port

    def _check_ports(self) -> None:
        """Before a spawn: who holds our ports? Foreign: another port, or a refusal that names the holder."""
        platform = self.site.platform
        for name, port in self.definition.ports.items():
            number = self.ports[name]
            if platform.port_is_free(self.definition.host, number):
                continue
            holder = platform.port_holder(number) or "a process that cannot be seen"
            if port.fixed is not None:
                key = "port" if len(self.ports) == 1 else f"ports.{name}"
                raise StartRefused(
                    f"cannot start {self.name}: port {number} is held by {holder}; "
                    f"stop it or set daemons.{self.name}.{key}"
                )
            taken = {n for other in self.site.daemons.values() for n in other.ports.values()}
            self.ports[name] = self._free_port(port.preferred, taken)
            self._note("port-taken", f"port {number} is held by {holder}; using {self.ports[name]}")

    # Watching

    def _hold(self, process: Process) -> None:
        self.process = process
        self._exited = asyncio.get_running_loop().create_future()
        self._oom_before = self.site.platform.oom_kills()
        process.watch(self._on_exit)

    def _take(self, log_start: int, *, adopted: bool) -> None:
        """A process is ours and watched: tell the machine."""
        self.adopted = adopted
        self._spawned_at = time.monotonic()
        record = self.pidfile.record
        self._age_before_s = max(time.time() - record.spawned_at, 0.0) if adopted and record else 0.0
        self._cpu_sample = None
        self.target = self._new_target(log_start)
        assert self.process is not None
        self._handle(Event.SPAWNED, f"adopted pid {self.process.pid}" if adopted else None)

    def _new_target(self, log_start: int) -> Target:
        values = self.values()
        env = {**self.site.env, **{k: expand(v, values) for k, v in self.definition.env.items()}}
        return Target(self.definition.host, self.ports, env, self.definition.cwd, self.log, log_start, {})

    async def _check(self, probes: tuple[AnyProbe, ...]) -> tuple[Result, AnyProbe | None]:
        """The first result that is not ok, with its probe; else the last one."""
        assert self.target is not None
        result = Result(True, "no probe")
        for probe in probes:
            result = await self.site.prober.check(expand_all(probe, self.values()), self.target)
            if not result.ok:
                self._remember(result)
                return result, probe
        self._remember(result)
        return result, None

    def _remember(self, result: Result) -> None:
        # On change only: ten thousand healthy polls add nothing.
        if not self.probe_results or self.probe_results[-1][1] != result:
            self.probe_results.append((time.time(), result))

    async def _await_ready(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        grace_s = self.definition.start_grace_s
        if self.adopted:
            grace_s = min(grace_s, ADOPTED_GRACE_S)
        while True:
            result, _ = await self._check(self.definition.ready)
            if result.ok and (stranger := self._answered_by_stranger()) is not None:
                result = Result(False, stranger)
                self._remember(result)
            elapsed = loop.time() - start
            if result.ok:
                self.ready_after_s = elapsed
                how = "adopted, and answers" if self.adopted else f"ready after {elapsed:.2f} s"
                self._handle(Event.PASS, how)
                return
            if self.detail != result.detail:
                self._progress(result.detail)
            if elapsed > grace_s:
                self._cause = Cause.PROBE
                self._handle(Event.CONDEMN, f"not ready after {grace_s:g} s: {result.detail}")
                return
            await asyncio.sleep(min(max(elapsed * POLL_SHARE, POLL_FLOOR_S), POLL_CEILING_S))

    def _answered_by_stranger(self) -> str | None:
        """Somebody else may have got our port between the check and the daemon's own bind, and answer for it."""
        platform = self.site.platform
        for number in self.ports.values():
            holder = platform.port_holder(number)
            if holder is None or holder.pid is None or self.process is None or holder.pid == self.process.pid:
                continue
            mark = platform.mark_of(holder.pid)
            if mark is None or not self._is_mine(mark):
                return f"port {number} is answered by {holder}, not by {self.name}"
        return None

    async def _guard(self) -> None:
        definition = self.definition
        interval_s = min((probe.interval_s for probe in definition.live), default=LIMITS_INTERVAL_S)
        failures = 0
        while True:
            await asyncio.sleep(interval_s)
            worn_out = self._worn_out()
            if worn_out is not None and not self.site.inhibited(self.name):
                self._cause = Cause.RECYCLED
                self._handle(Event.CONDEMN, worn_out)
                return
            if not definition.live:
                continue
            result, probe = await self._check(definition.live)
            if probe is None:
                failures = 0
                self._handle(Event.PASS, "answers again")
                continue
            failures += 1
            self._handle(Event.FAIL, result.detail)
            if failures < probe.failures:
                self._progress(f"{result.detail} ({failures} of {probe.failures})")
            elif may_kill(definition.restart, self.history, time.monotonic()):
                self._cause = Cause.PROBE
                self._handle(Event.CONDEMN, f"{failures} failures in a row: {result.detail}")
                return
            else:
                self._progress(f"{result.detail}; its probes ended it {definition.restart.kills} times within the hour")

    def _worn_out(self) -> str | None:
        definition, age_s = self.definition, self._age_s()
        if definition.max_runtime_s is not None and age_s > definition.max_runtime_s:
            return f"recycled: it has run for {age_s:.0f} s, and max_runtime_s is {definition.max_runtime_s:g}"
        if definition.max_rss_bytes is not None and self.process is not None:
            usage = self.site.platform.usage([self.process.pid]).get(self.process.pid)
            if usage is not None and usage.rss_bytes > definition.max_rss_bytes:
                return f"recycled: it uses {usage.rss_bytes} bytes, and max_rss_bytes is {definition.max_rss_bytes}"
        return None

    async def _observe(self) -> None:
        """An external daemon: look, report, and do nothing."""
        probes = self.definition.live or self.definition.ready
        interval_s = min((probe.interval_s for probe in probes), default=LIMITS_INTERVAL_S)
        while True:
            result, _ = await self._check(probes)
            if result.ok != self.external_ready or self.detail is None:
                self.external_ready = result.ok
                self._note("external-ready" if result.ok else "external-not-ready", result.detail)
            self._progress(result.detail)
            await asyncio.sleep(interval_s)

    # Ending

    def _on_exit(self, status: ExitStatus) -> None:
        assert self.process is not None and self._exited is not None
        text = str(status)
        if status.signal == "SIGKILL" and self._cause is Cause.EXIT and self.state in ALIVE:
            after = self.site.platform.oom_kills()
            if after is not None and self._oom_before is not None and after > self._oom_before:
                text += "; the kernel killed for want of memory meanwhile: probably this process"
        pid = self.process.pid
        self.last_exit = Exit(code=status.code, signal=status.signal, at=time.time(), pid=pid, text=text)
        self._note("exit", text, pid)
        self._stop_probing()
        self._cancel_stable()
        self._exited.set_result(status)
        if self.state in ALIVE and self._ending is None:
            self._end()

    def _end(self) -> None:
        if self._ending is None:
            self._ending = self._task(self._finish())

    async def _finish(self) -> None:
        """End whatever there is of this daemon, and say what follows."""
        try:
            self._stop_probing()
            await self._give_up_start()
            unprompted = self.state in ALIVE
            if unprompted and self._follow():
                return
            await self._end_tree()
            self._clear_record()
        finally:
            self._ending = None
        status = self.last_exit
        clean = status is not None and status.code == 0
        text = self.detail if self._cause in (Cause.PROBE, Cause.RECYCLED) else (status.text if status else None)
        if unprompted and status is not None:
            tail = self.log.tail(1, since=self.target.log_start if self.target else 0)
            text = f"{status.text}; last line: {tail[0][:200]}" if tail else status.text
        cause = Cause.OPERATOR if self.state is State.STOPPING else self._cause
        self._conclude(cause, clean=clean, text=text or "not started")

    def _conclude(self, cause: Cause, *, clean: bool, text: str) -> None:
        self.verdict = decide(
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
        self._handle(self.verdict.event, self.verdict.reason)

    async def _give_up_start(self) -> None:
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        self._starting = None

    def _follow(self) -> bool:
        """A launcher that forks and exits leaves the daemon itself behind: follow it."""
        record = self.pidfile.record
        if self.state is not State.RUNNING or self.last_exit is None or self.last_exit.code != 0 or record is None:
            return False
        found = [process for process, _ in self.site.platform.marked(lambda mark: mark.token == record.token)]
        if not found:
            return False
        found.sort(key=lambda process: process.pid)
        main, *others = found
        for other in others:
            other.close()
        self._note("followed", f"the command forked and exited; following pid {main.pid}", main.pid)
        if self.process is not None:
            self.process.close()
        self._hold(main)
        with contextlib.suppress(OSError):
            self.pidfile.establish(main.pid, main.identity)
        self._probing = self._task(self._await_ready())
        return True

    async def _end_tree(self) -> None:
        """Signal, grace, SIGKILL; returns when everything of this daemon is seen to be gone."""
        process, exited, stop = self.process, self._exited, self.definition.stop
        if process is not None and exited is not None:
            if not exited.done():
                process.signal_group(getattr(signal, stop.signal))
                process.signal_group(signal.SIGCONT)  # a stopped process takes its signal only then
                if not await self._gone(exited, stop.grace_s):
                    self._note("killed", f"still there {stop.grace_s:g} s after {stop.signal}: SIGKILL", process.pid)
                    process.signal_group(signal.SIGKILL)
                    await exited
            # What is left of its group after the main process: nothing in it has anything to live for.
            process.signal_group(signal.SIGTERM)
        await self._sweep()
        if process is not None:
            process.close()
        self.process = None

    async def _gone(self, exited: asyncio.Future[ExitStatus], grace_s: float) -> bool:
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait([exited, hurry], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
        return exited.done()

    async def _sweep(self) -> None:
        """End what bears our mark or holds our lock and is not the main process: strays that left its group."""
        platform = self.site.platform
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(SWEEP_GRACE_S, self.definition.stop.grace_s)
        asked: set[int] = set()
        while True:
            left = [process for process, _ in platform.marked(self._is_mine)]
            if not left:
                lock = platform.lock(self.site.state.daemon_lock(self.name))
                if lock is not None:
                    lock.release()
                    return
                left = platform.heirs(self.site.state.daemon_lock(self.name))
                if not left:
                    return  # held and not to be told by whom: the next start will say so
            force = loop.time() >= deadline or self._hurry.is_set()
            for process in left:
                if force:
                    process.signal(signal.SIGKILL)
                elif process.pid not in asked:
                    asked.add(process.pid)
                    self._note("swept", f"pid {process.pid} was left by this daemon", process.pid)
                    process.signal(signal.SIGTERM)
                    process.signal(signal.SIGCONT)
                process.close()
            await asyncio.sleep(SWEEP_POLL_S)

    def _is_mine(self, mark: Mark) -> bool:
        return mark.name == self.name and mark.state_dir == str(self.site.state.path)

    def _clear_record(self) -> None:
        try:
            self.pidfile.clear()
        except OSError as error:
            self._note("record-not-removed", _describe(error))

    # Small things

    def _age_s(self) -> float:
        """Seconds since the spawn; before an adoption by the wall clock, since then by the monotonic one."""
        return self._age_before_s + (time.monotonic() - self._spawned_at if self._spawned_at is not None else 0.0)

    def _progress(self, detail: str | None) -> None:
        """Something to show while a state lasts."""
        if detail != self.detail:
            self.detail = detail
            self.site.changed.notify()

    def _note(self, event: str, detail: str | None = None, pid: int | None = None) -> None:
        self.site.journal.add(event, daemon=self.name, state=self.state.public, pid=pid, detail=detail)

    def _later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def _cancel_stable(self) -> None:
        if self._stable is not None:
            self._stable.cancel()
            self._stable = None

    def _cancel_delay(self) -> None:
        self._due_at = None
        if self._delay is not None:
            self._delay.cancel()
            self._delay = None

    def _cancel_timers(self) -> None:
        self._cancel_stable()
        self._cancel_delay()

    def _stop_probing(self) -> None:
        if self._probing is not None and self._probing is not asyncio.current_task():
            self._probing.cancel()
        self._probing = None

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._guarded(work))

    async def _guarded(self, work: Awaitable[None]) -> None:
        """A fault of ours must not leave the daemon in a state that nothing will ever change."""
        try:
            await work
        except (asyncio.CancelledError, Refused):
            raise
        except Exception as error:
            self._note("internal-error", f"{type(error).__name__}: {error}")
            if self.state is State.STARTING:
                self._start_failed(f"internal error: {error}")


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__

