"""The world of one seed: what happens to the daemons and their supervisors, and what must hold throughout."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import io
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

import filelock
import msgspec

from neo_daemons import records
from neo_daemons.definitions import AnyProbe, Definition, HttpProbe, Launch, Port, Restart, Stop
from neo_daemons.records import DaemonRecord, DamagedRecord, Intentions, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.status import JournalEntry
from neo_daemons.supervision import claim as claim_module
from neo_daemons.supervision.claim import AlreadyRunning
from neo_daemons.supervision.machine import ALIVE, Event, Refused, State
from neo_daemons.supervision.platform import ExitStatus
from neo_daemons.supervision.probes import Answer, Result, Target, verdict
from neo_daemons.supervision.run import Run
from neo_daemons.supervision.slot import DATA_LOCK
from neo_daemons.supervision.supervisor import Supervisor

from .disk import Disk
from .kernel import (
    Behaviour,
    Description,
    Incarnation,
    Kernel,
    Killed,
    Loop,
    Proc,
    SimPlatform,
    Violation,
    running,
)

TROUBLE_S = 40.0
"""Duration of the trouble."""
CALM_S = 90.0
"""Everything wanted must be up within this time after the trouble."""
GRACE_S = 1.0
INTERVAL_S = 0.5
TIMEOUT_S = 0.4
FAILURES = 3
REVIVE_S = 25.0
LIMIT, WINDOW_S = 6, 20.0
UNWELL_S = FAILURES * (INTERVAL_S + TIMEOUT_S) + 1.0
"""A daemon that has answered for this long counts as healthy: there is no reason left to stop it."""
SAVED_S = 1.5
PATIENCE_S = 30.0
"""Time limit of a stop."""
MAX_RUNTIME_S = 15.0
NOTICED_S = 0.1


class SimFileLock:
    """Replaces filelock's lock by one of the simulated kernel."""

    def __init__(self, path: Any) -> None:
        self._path = str(path)
        self._held: Any = None

    def acquire(self, timeout: float = 0, poll_interval: float = 0) -> None:
        world = World.current
        assert world is not None
        owner = running.get()
        assert owner is not None
        taken = world.kernel.take(self._path, owner)
        if taken is None:
            raise filelock.Timeout(self._path)
        self._held = (taken[1], owner)
        Path(self._path).touch()

    def release(self) -> None:
        if self._held is not None:
            assert World.current is not None
            World.current.kernel.drop(*self._held)
            self._held = None


class SimProber:
    """A prober that asks the simulated processes."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def check(self, probe: AnyProbe, target: Target) -> Result:
        port = target.port(None)
        holder = next((proc for proc in self._world.kernel.living() if port in proc.ports), None)
        if holder is None:
            return verdict(False, "connection refused")
        if (stranger := target.stranger()) is not None:
            return Result(Answer.FAILED, stranger, stranger=True)
        if holder.stopped or holder.hung:
            await asyncio.sleep(TIMEOUT_S)
            return verdict(False, "no answer")
        await asyncio.sleep(0.001)
        holder.answered_at = self._world.kernel.now
        return verdict(holder.alive, "answered")

    async def close(self) -> None:
        pass


class World:
    """One seed, from beginning to end."""

    current: World | None = None

    def __init__(self, seed: int, root: Path) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.root = root
        self.state = StateDir(root / "state")
        self.log: list[str] = []
        self.kernel = Kernel(self.rng, self.trace)
        self.kernel.decide = self._behaviour
        self.kernel.on_signal = self._judge_signal
        self.kernel.on_spawn = self._judge_spawn
        self.incarnations: list[Incarnation] = []
        self.kill_in: int | None = None
        self.calm = False
        self.wall_offset_s = 0.0
        self.definitions = self._definitions()
        self.cursed = self.rng.choice(("a", "b", None, None, None))
        """A daemon that hardly ever comes up during the trouble."""
        self.licensed: dict[str, float] = {}
        """Daemon → until when it may be stopped on request."""
        self.down: set[str] = set()
        """Daemons that an operator has stopped."""
        self.held: set[str] = set()
        self.held_saved = True
        self.spawns: dict[str, list[float]] = {}
        self.disk = Disk(self.rng, (self.state.path, self.state.daemons), self.effect)
        self.unnoticed: dict[Run, float] = {}
        """Run → the time of an exit that has had no consequence yet."""
        self.leases: list[tuple[Supervisor, int]] = []
        self.rivals: dict[str, tuple[int, Description]] = {}
        """Daemon → the lock on its data directory that another project's supervisor holds."""
        self.violation: Violation | None = None
        self.ended = False
        self.counts: dict[str, int] = {}
        self._graveyard: list[Any] = []

    # Log and violations

    def trace(self, what: str, *about: Any) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        self.log.append(f"{self.kernel.now:9.4f} {what} {' '.join(map(str, about))}")

    def violated(self, text: str) -> None:
        if self.violation is None:
            self.violation = Violation(f"seed {self.seed}: {text}")
            self.log.append(f"VIOLATION {text}")
            # There is nothing more to learn, and a broken world may loop for ever.
            asyncio.get_running_loop().stop()

    # The daemons

    def _definitions(self) -> list[Definition]:
        made = []
        names = ["a", "b", "c"][: self.rng.randint(1, 3)]
        for number, name in enumerate(names):
            probe = (HttpProbe(interval_s=INTERVAL_S, timeout_s=TIMEOUT_S, failures=FAILURES),)
            earlier = names[:number]
            made.append(
                Definition(
                    name=name,
                    command=("program", "port=${port}"),
                    cwd=str(self.root),
                    ports={"main": Port(fixed=10_000 + number) if self.rng.random() < 0.3 else Port()},
                    data_dir=str(self.root / "data" / name) if self.rng.random() < 0.5 else None,
                    ready=probe,
                    live=probe,
                    start_grace_s=5.0,
                    stop=Stop(grace_s=GRACE_S),
                    requires=tuple(earlier[-1:]) if self.rng.random() < 0.3 else (),
                    max_runtime_s=MAX_RUNTIME_S if self.rng.random() < 0.25 else None,
                    after=tuple(earlier[:1]) if self.rng.random() < 0.3 else (),
                    restart=Restart(
                        base_s=0.2,
                        ceiling_s=2.0,
                        stable_s=3.0,
                        limit=LIMIT,
                        window_s=WINDOW_S,
                        revive_s=REVIVE_S,
                        kills=20,
                    ),
                )
            )
        return made

    def _behaviour(self, name: str, spec: Any) -> Behaviour:
        rng, made = self.rng, Behaviour()
        made.boot_s = rng.choice((0.05, 0.3, 1.0))
        made.launcher = rng.random() < 0.15
        made.stray = rng.random() < 0.2
        made.term_s = rng.choice((0.01, 0.2, GRACE_S * 3, None))
        made.stray_term_s = rng.choice((0.01, 0.5, None))
        if not self.calm and rng.random() < (0.95 if name == self.cursed else 0.3):
            made.ends_after_s = rng.choice((0.0, 0.02, 0.5, 4.0))
            made.exit = ExitStatus(code=rng.choice((0, 1))) if rng.random() < 0.7 else ExitStatus(signal="SIGSEGV")
        return made

    # The invariants

    def _judge_spawn(self, proc: Proc) -> None:
        runs = {other.mark for other in self.kernel.living("daemon", "stray") if other.name == proc.name}
        if len(runs) > 1:
            self.violated(f"I1: {proc.name} was started while another run of it is alive")
        if proc.name in self.rivals:
            self.violated(f"I1: {proc.name} was started on a data directory that is in use")
        now = self.kernel.now
        times = [at for at in self.spawns.get(proc.name, []) if at > now - WINDOW_S]
        self.spawns[proc.name] = [*times, now]
        if len(times) > 2 * LIMIT + 2:  # a stable run in between resets the count
            self.violated(f"limit: {proc.name} was started {len(times) + 1} times within {WINDOW_S:g} s")

    def _judge_signal(self, proc: Proc, signum: int) -> None:
        if proc.kind == "stranger":
            self.violated(f"I3: signal {signum} to {proc}, which is not ours")
        if not proc.alive or proc.kind != "daemon":
            return
        if signum == signal.SIGTERM:
            proc.termed_at = proc.termed_at if proc.termed_at is not None else self.kernel.now
        now = self.kernel.now
        if signum == signal.SIGKILL and (proc.termed_at is None or now - proc.termed_at < GRACE_S - 0.001):
            self.violated(f"grace: {proc} was killed before its grace period of {GRACE_S:g} s")
        unasked = now > self.licensed.get(proc.name, -1.0) and proc.termed_at in (None, now)
        if signum not in (signal.SIGTERM, signal.SIGKILL) or not unasked or not proc.ports or self._worn_out(proc):
            return
        silent_s = now - proc.answered_at
        if proc.hung and silent_s < (FAILURES - 1) * INTERVAL_S:
            self.violated(f"impatience: {proc} answered a probe {silent_s:.2f} s ago")
        if not (proc.stopped or proc.hung) and now - proc.unwell_at > UNWELL_S:
            self.violated(f"I4: signal {signum} to {proc}, which is healthy, without a request")

    def _worn_out(self, proc: Proc) -> bool:
        """Whether it may be recycled."""
        limits = [made.max_runtime_s for made in self.definitions if made.name == proc.name]
        made = self.serving
        inhibited = made is not None and bool({proc.name, None} & set(made.inhibitors.values()))
        return not inhibited and limits != [None] and self.kernel.now - proc.identity.start_time >= MAX_RUNTIME_S - 0.1

    def judge(self) -> None:
        """Check what must hold at any time."""
        for name in {definition.name for definition in self.definitions}:
            runs = {proc.mark for proc in self.kernel.living("daemon", "stray") if proc.name == name}
            if len(runs) > 1:
                self.violated(f"I1: {len(runs)} runs of {name} at once")
        self._judge_states()
        living = [one for one in self.incarnations if not one.dead and one.supervisor is not None]
        if len(living) > 1:
            self.violated("I1: two supervisors of one directory")

    def _judge_states(self) -> None:
        """Check that stopped daemons stay down, and that an exit is noticed directly, not by a failing probe."""
        made, now, before = self.serving, self.kernel.now, self.unnoticed
        self.unnoticed = {}
        for daemon in made.daemons.values() if made is not None else ():
            if daemon.name in self.down and daemon.state in (State.STARTING, State.BACKOFF, *ALIVE):
                self.violated(f"I4: {daemon.name} is {daemon.state}, although an operator has stopped it")
            if daemon.run is not None and daemon.state in ALIVE and not daemon.run.process.is_alive():
                since = self.unnoticed[daemon.run] = before.get(daemon.run, now)
                if now - since > NOTICED_S:
                    self.violated(f"I4: {daemon.name} is {daemon.state}, although its process has exited")

    def judge_files(self) -> None:
        """Check what must hold whenever a supervisor was killed."""
        kinds: list[tuple[Path, Any]] = [(self.state.record, SupervisorRecord), (self.state.intentions, Intentions)]
        kinds += [(path, DaemonRecord) for path in self.state.daemons.glob("[!.]*.json")]
        for path, kind in kinds:
            try:
                records.read(path, kind)
            except DamagedRecord as error:
                if path.read_bytes() not in self.disk.torn:
                    self.violated(f"I5: {error}")
        with contextlib.suppress(FileNotFoundError):
            for line in self.state.journal.read_bytes().splitlines()[:-1]:
                if line:
                    with contextlib.suppress(msgspec.DecodeError):
                        msgspec.json.decode(line, type=JournalEntry)

    # The supervisors

    def effect(self, what: str) -> None:
        """Note an action, about to happen or just done, that outlives the supervisor: it may be killed here."""
        owner = running.get()
        if owner is None:
            return
        if owner.dead:
            raise Killed
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in <= 0:
                self.kill_in = None
                self.trace("killed-at", what)
                self.die(owner)
                raise Killed

    def die(self, incarnation: Incarnation) -> None:
        """Kill a supervisor with SIGKILL."""
        if incarnation.dead:
            return
        self.trace("supervisor-killed", incarnation.number)
        incarnation.dead = True
        self._graveyard.append(incarnation.supervisor)
        self.kernel.bury(incarnation)

    async def supervise(self) -> None:
        """Start a supervisor, which runs until it is killed or stopped."""
        incarnation = Incarnation(len(self.incarnations) + 1)
        incarnation.is_subreaper = incarnation.number % 2 == 1
        self.incarnations.append(incarnation)
        done = asyncio.get_running_loop().create_future()
        token = running.set(incarnation)
        task = asyncio.get_running_loop().create_task(self._supervise(incarnation, done))
        running.reset(token)
        self._graveyard.append(task)
        await asyncio.wait([done], timeout=1.0)

    async def _supervise(self, incarnation: Incarnation, done: asyncio.Future[None]) -> None:
        made = Supervisor(
            self.definitions,
            state_dir=self.state,
            resolve=lambda definition: Launch(command=definition.command),
            platform=SimPlatform(self.kernel, incarnation, self.effect),
            prober=SimProber(self),  # type: ignore[arg-type]
            rng=random.Random(self.rng.random()),
            env={},
            parallel=4,
        )
        self._graveyard.append(made)
        try:
            await made.start("socket")
        except AlreadyRunning:
            self.trace("refused", incarnation.number)
            incarnation.dead = True
        except Exception as error:
            # The disk is full: it says so and releases the directory.
            self.trace("not-started", type(error).__name__)
            if not self.disk.full:
                self.violated(f"I6: a supervisor did not start: {error!r}")
            made.release()
            incarnation.dead = True
        else:
            incarnation.supervisor = made
            self.spawns.clear()
            self.trace("supervisor", incarnation.number)
            held = {daemon.name for daemon in made.daemons.values() if daemon.held}
            if self.held_saved and held != self.held:
                self.violated(f"a hold did not survive: {self.held} became {held}")
            self.held = held
            # The next supervisor starts what an operator stopped.
            self.down.clear()
        if not done.done():
            done.set_result(None)

    @property
    def serving(self) -> Supervisor | None:
        found = [one.supervisor for one in self.incarnations if not one.dead and one.supervisor is not None]
        return found[-1] if found else None

    # Events

    async def befall(self) -> None:
        """Cause one random event."""
        rng, kernel = self.rng, self.kernel
        daemons = kernel.living("daemon")
        target = rng.choice(daemons) if daemons else None
        match rng.choice(CALAMITIES):
            case "crash" if target is not None:
                kernel.exit(target, ExitStatus(signal="SIGKILL"))
            case "exit" if target is not None:
                kernel.exit(target, ExitStatus(code=rng.choice((0, 1))))
            case "crash-and-order" if target is not None:
                # While leftovers of a daemon are being stopped.
                kernel.exit(target, ExitStatus(signal="SIGKILL"))
                await asyncio.sleep(rng.choice((0.002, 0.01, 0.03)))
                self.order(target.name, rng.choice(ORDERS))
            case "stop" if target is not None:
                kernel.deliver(target, signal.SIGSTOP)
            case "continue" if target is not None:
                kernel.deliver(target, signal.SIGCONT)
            case "hang" if target is not None:
                target.fall_silent(kernel.now, stopped=False)
            case "hiccup" if target is not None:
                # Too short to fail its liveness.
                target.fall_silent(kernel.now, stopped=False)

                def recover() -> None:
                    target.hung, target.unwell_at = False, kernel.now

                asyncio.get_running_loop().call_later(INTERVAL_S, recover)
            case "stray" if target is not None:
                kernel.fork(target, "stray", session=rng.random() < 0.5)
            case "stranger":
                self._stranger(rng.choice((None, *range(10_000, 10_003))))
            case "strangers-leave":
                for proc in kernel.living("stranger"):
                    kernel.exit(proc, ExitStatus(code=0))
            case "kill-supervisor":
                self.kill_now()
            case "recycle" if target is not None:
                # A daemon exits while no supervisor runs, and another process gets its pid.
                self.kill_now()
                kernel.exit(target, ExitStatus(code=1))
                self.trace("stranger", kernel.make("stranger", "stranger", target.pid))
            case "kill-at-an-effect":
                self.kill_in = rng.randint(1, 25)
            case "second-supervisor":
                await self.supervise()
            case "order":
                self.order(rng.choice(self.definitions).name, rng.choice(list(ORDERS)))
            case "disk-full":
                self.disk.full = True
            case "disk-free":
                self.disk.full = False
                # It is written as soon as it can be.
                await asyncio.sleep(SAVED_S)
                self.held_saved = self.held_saved or (self.serving is not None and not self.disk.full)
            case "power-cut":
                self.cut_power()
            case "forgery" if target is not None:
                self._forge(target)
            case "lease":
                self._lease()
            case "client-vanishes" if self.leases:
                self._drop_lease()
            case "rival":
                self._rival()
            case "rivals-leave":
                self._rivals_leave()
            case "clock":
                self.wall_offset_s += rng.choice((-86_400.0, -1.0, 3600.0, 400 * 86_400.0))
            case "reload":
                await self.reload()
            case _:
                return

    def kill_now(self) -> None:
        for incarnation in self.incarnations:
            if incarnation.supervisor is not None:
                self.die(incarnation)
        self.judge_files()

    def cut_power(self) -> None:
        """Cut the power: no process survives, and files that were not synced may be lost."""
        for incarnation in self.incarnations:
            self.die(incarnation)
        self.trace("power-cut")
        self.rivals.clear()
        self.kernel.reboot()
        self.disk.cut()

    def _forge(self, target: Proc) -> None:
        """Let the record of a daemon name a stranger, with its full identity, while no supervisor runs."""
        self.kill_now()
        strangers, path = self.kernel.living("stranger"), self.state.daemon_record(target.name)
        with contextlib.suppress(OSError, DamagedRecord):
            record = records.read(path, DaemonRecord)
            if record is not None and strangers:
                stranger = self.rng.choice(strangers)
                self.trace("forgery", target, stranger)
                forged = msgspec.structs.replace(record, pid=stranger.pid, identity=stranger.identity)
                path.write_bytes(msgspec.json.encode(forged))
                # Its processes can no longer be distinguished from leftovers.
                self.licensed[target.name] = self.kernel.now + CALM_S

    def _lease(self) -> None:
        made = self.serving
        if made is not None:
            number = len(self.log)
            made.inhibitors[number] = self.rng.choice((None, *made.daemons))
            self.leases.append((made, number))
            self.trace("lease", made.inhibitors[number])

    def _drop_lease(self) -> None:
        made, number = self.leases.pop(self.rng.randrange(len(self.leases)))
        made.inhibitors.pop(number, None)
        self.trace("client-vanishes", number)

    def _rival(self) -> None:
        definition = self.rng.choice(self.definitions)
        if definition.data_dir is not None:
            # The name is a contract between projects: changing it affects earlier versions.
            taken = self.kernel.take(str(Path(definition.data_dir) / DATA_LOCK), "rival")
            if taken is not None:
                self.rivals[definition.name] = taken
                self.trace("rival", definition.name)

    def _rivals_leave(self) -> None:
        for _, description in self.rivals.values():
            self.kernel.drop(description, "rival")
        self.rivals.clear()

    def _stranger(self, port: int | None) -> None:
        if len(self.kernel.living("stranger")) > 8:
            return
        proc = self.kernel.make("stranger", "stranger")
        if port is not None and not any(port in other.ports for other in self.kernel.living()):
            proc.ports.add(port)
        self.trace("stranger", proc, port)

    def order(self, name: str, event: Event) -> None:
        """Give an order as an operator."""
        made = self.serving
        if made is None or self.kill_in is not None:
            return
        self.trace("order", name, event)
        self.spawns.clear()
        for other in self.definitions:
            # Dependants are not stopped with it, but may exit without it.
            if other.name == name:
                self.licensed[other.name] = self.kernel.now + 10.0
        owner = next(one for one in self.incarnations if one.supervisor is made)
        token = running.set(owner)
        try:
            made.order(name, event)
        except Refused:
            return
        except Killed:
            return
        finally:
            running.reset(token)
        self.wanted(made, name, event)
        # The core decides what a hold means in each state; the invariant is that it survives.
        held = {daemon.name for daemon in made.daemons.values() if daemon.held}
        if held != self.held:
            self.held, self.held_saved = held, not self.disk.full

    def wanted(self, made: Supervisor, name: str, event: Event) -> None:
        """Note what an operator wants by an accepted order."""
        match event:
            case Event.STOP:
                self.down.add(name)
            case Event.START | Event.RESTART:
                self.down.discard(name)
                for definition in self.definitions:
                    if definition.name == name:
                        self.down -= set(definition.requires)
            case Event.RELEASE:
                # It starts what the hold kept down, not what was also stopped.
                if made.daemons[name].state not in (State.STOPPED, State.STOPPING):
                    self.down.discard(name)

    async def reload(self) -> None:
        """Reload with a definition that requires a new process."""
        made = self.serving
        if made is None:
            return
        number = self.rng.randrange(len(self.definitions))
        old = self.definitions[number]
        self.definitions[number] = msgspec.structs.replace(old, env={"GENERATION": str(self.rng.random())})
        self.licensed[old.name] = self.kernel.now + 20.0
        self.trace("reload", old.name)
        self.spawns.clear()
        owner = next(one for one in self.incarnations if one.supervisor is made)
        token = running.set(owner)
        task = asyncio.get_running_loop().create_task(made.reload(list(self.definitions)))
        running.reset(token)
        self._graveyard.append(task)

    async def live(self) -> None:
        """Run the trouble, then calm, then the stop."""
        await self.supervise()
        loop = asyncio.get_running_loop()
        while loop.time() < TROUBLE_S and self.violation is None:
            await asyncio.sleep(self.rng.choice((0.0, 0.003, 0.05, 0.5, 3.0)))
            await self.befall()
            self.judge()
            if self.serving is None and self.rng.random() < 0.5:
                await self.supervise()
                if self.rng.random() < 0.2:
                    await self.supervise()
        self.calm, self.disk.full, self.kill_in = True, False, None
        for proc in self.kernel.living("stranger"):
            self.kernel.exit(proc, ExitStatus(code=0))
        self._rivals_leave()
        if self.serving is None:
            await self.supervise()
        if self.serving is not None:
            self.serving.inhibitors[0] = None
        calm_until = loop.time() + CALM_S
        while loop.time() < calm_until and self.violation is None:
            await asyncio.sleep(1.0)
            self.judge()
        if self.violation is None:
            self._judge_calm()
        if self.violation is None:
            await self._end()
        self.ended = True

    def _judge_calm(self) -> None:
        made = self.serving
        if made is None:
            self.violated("I6: there is no supervisor, and nobody killed it")
            return
        off = self.down | self.held
        for definition in self.definitions:  # each after those that it requires
            if set(definition.requires) & off:
                off.add(definition.name)
        for daemon in made.daemons.values():
            if daemon.name not in off and not daemon.ready:
                self.violated(f"I4: {daemon.name} is {daemon.state}, not ready ({daemon.situation.detail})")
        faults = [entry for entry in made.events(500) if entry.event == "internal-error"]
        if faults:
            self.violated(f"I6: {faults[0].detail}")

    async def _end(self) -> None:
        made = self.serving
        assert made is not None
        owner = next(one for one in self.incarnations if one.supervisor is made)
        for definition in self.definitions:
            self.licensed[definition.name] = float("inf")
        token = running.set(owner)
        task = asyncio.get_running_loop().create_task(made.stop())
        running.reset(token)
        done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
        if not done:
            self.violated(f"I6: a stop takes more than {PATIENCE_S:g} s")
            return
        task.result()
        made.release()
        owner.supervisor = None
        left = self.kernel.living("daemon", "stray")
        if left:
            self.violated(f"I2: left after the stop: {left}")
        if self.kernel.locked():
            self.violated(f"I2: locked after the stop: {self.kernel.locked()}")
        files = [*self.state.path.rglob("*.tmp"), *self.state.daemons.glob("*.json"), self.state.record]
        files = [path for path in files if path.exists()]
        if files:
            self.violated(f"I2: files after the stop: {files}")
        self.judge_files()

    def run(self) -> Self:
        """Run the world; `violation` holds the first violation."""
        World.current = self
        loop = Loop()
        loop.set_exception_handler(self._fault)
        with self._patched(loop.time):
            try:
                with contextlib.suppress(RuntimeError):  # stopped, by a violation
                    loop.run_until_complete(self.live())
                if self.violation is None and not self.ended:
                    raise AssertionError(f"seed {self.seed}: the world has stalled")
            finally:
                for incarnation in self.incarnations:
                    incarnation.dead = True
                    if incarnation.supervisor is not None:
                        self._graveyard.append(incarnation.supervisor)
                for made in self._graveyard:
                    if isinstance(made, Supervisor):
                        _close_files(made)
                self._bury_tasks(loop)
                loop.close()
                self._graveyard.clear()
                World.current = None
        return self

    def _bury_tasks(self, loop: Loop) -> None:
        """Drop the pending work of a dead supervisor: nothing of it may run or be reported any more."""
        token = running.set(self.incarnations[0])
        for task in loop.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            self._bury_work(task.get_coro())
        loop.tasks.clear()
        running.reset(token)

    def _bury_work(self, work: Any) -> None:
        if (
            inspect.getcoroutinestate(work) == inspect.CORO_CREATED
        ):  # it was never started, so its argument is still pending
            for given in work.cr_frame.f_locals.values():
                if inspect.iscoroutine(given):
                    self._bury_work(given)
        with contextlib.suppress(BaseException):
            work.close()

    def _fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, Killed):
            return
        self.violated(f"I6: {context.get('message')}: {error!r}")

    @contextlib.contextmanager
    def _patched(self, now: Callable[[], float]) -> Iterator[None]:
        """Time, files and what is random, for all code that runs meanwhile."""
        rng = random.Random(self.seed + 1)
        with (
            self.disk.patched(),
            mock.patch.object(time, "time", lambda: 1.8e9 + self.wall_offset_s + now()),
            mock.patch.object(time, "time_ns", lambda: int((1.8e9 + self.wall_offset_s + now()) * 1e9)),
            mock.patch.object(time, "monotonic", lambda: 1000.0 + now()),
            mock.patch("secrets.token_hex", lambda size: rng.randbytes(size).hex()),
            mock.patch.object(claim_module, "supervisor_lock", SimFileLock),
        ):
            yield


def _close_files(supervisor: Supervisor) -> None:
    """Close what the kernel closes when a supervisor dies."""
    claim = supervisor.upkeep._claim
    if claim._descriptor >= 0:
        os.close(claim._descriptor)
        claim._descriptor = -1
    if supervisor._fleet is not None:
        supervisor.journal.close()


CALAMITIES = (
    "crash-and-order",
    *("crash",) * 4, *("exit",) * 3, "stop", "continue", "hang", "hiccup", "hiccup", "stray", "stray",
    "stranger", "stranger", "strangers-leave", *("kill-supervisor",) * 2, *("kill-at-an-effect",) * 4,
    "second-supervisor", *("order",) * 4, "disk-full", "disk-free", "disk-free", *("clock",) * 2, "reload", "recycle",
    "power-cut", "forgery", *("lease",) * 2, "client-vanishes", *("rival",) * 2, *("rivals-leave",) * 2,
)  # fmt: skip
ORDERS = (Event.START, Event.STOP, Event.RESTART, Event.HOLD, Event.RELEASE)


def live(seed: int) -> World:
    """Run the world of a seed and return it."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    root = Path(tempfile.mkdtemp(prefix="simulated-", dir=base))
    errors = io.StringIO()
    try:
        gc.disable()
        with contextlib.redirect_stderr(errors):
            return World(seed, root).run()
    finally:
        gc.enable()
        shutil.rmtree(root, ignore_errors=True)
