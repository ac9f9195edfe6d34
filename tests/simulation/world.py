"""The world of one seed: its kernel, its disk, its daemons and their supervisors, which can be killed and started."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neo_daemons.definitions import Launch
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.claim import AlreadyRunning
from neo_daemons.supervision.supervisor import Supervisor

from . import daemons
from .clock import WallClock
from .disk import Disk
from .incarnations import Incarnation, Killed, acting_as, running
from .kernel import Behaviour, Description, Kernel
from .platform import SimPlatform, SimProber


class Violation(AssertionError):
    """An invariant is broken."""


class World:
    """What there is, and a log of what happened."""

    def __init__(self, seed: int, root: Path) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.state = StateDir(root / "state")
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self.violation: Violation | None = None
        self.kernel = Kernel(self.rng, self.trace)
        self.kernel.decide = self._behaviour
        self.incarnations: list[Incarnation] = []
        self.kill_in: int | None = None
        """Effects after which the supervisor is killed."""
        self.calm = False
        self.clock = WallClock(seed)
        self.definitions = daemons.definitions(self.rng, root)
        self.cursed = self.rng.choice(("a", "b", None, None, None))
        """A daemon that hardly ever comes up during the trouble."""
        self.disk = Disk(self.rng, (self.state.path, self.state.daemons), self.effect)
        self.rivals: dict[str, tuple[int, Description]] = {}
        """Daemon → the lock on its data directory that another project's supervisor holds."""
        self.on_start: Callable[[Supervisor], None] = lambda made: None
        self.on_failed_start: Callable[[Exception], None] = lambda error: None
        self._graveyard: list[Any] = []

    # Log and violations

    def trace(self, what: str, *about: Any) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        self.log.append(f"{self.kernel.now:9.4f} {what} {' '.join(map(str, about))}")

    def violated(self, text: str) -> None:
        """Keep the first violation, and stop the world."""
        if self.violation is None:
            self.violation = Violation(f"seed {self.seed}: {text}")
            self.log.append(f"VIOLATION {text}")
            # There is nothing more to learn, and a broken world may loop for ever.
            asyncio.get_running_loop().stop()

    def _behaviour(self, name: str, spec: Any) -> Behaviour:
        failing = 0.0 if self.calm else 0.95 if name == self.cursed else 0.3
        return daemons.behaviour(self.rng, failing)

    # Supervisors

    @property
    def living(self) -> list[Incarnation]:
        """Those that have taken the state directory."""
        return [one for one in self.incarnations if not one.dead and one.supervisor is not None]

    @property
    def serving(self) -> Supervisor | None:
        found: list[Supervisor] = [one.supervisor for one in self.living]
        return found[-1] if found else None

    def owner(self, made: Supervisor) -> Incarnation:
        """The process of a supervisor."""
        return next(one for one in self.incarnations if one.supervisor is made)

    def begin(self, made: Supervisor, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine in the process of a supervisor."""
        with acting_as(self.owner(made)):
            return asyncio.get_running_loop().create_task(work)

    async def supervise(self) -> None:
        """Start a supervisor, which runs until it is killed or stopped."""
        incarnation = Incarnation(len(self.incarnations) + 1)
        self.incarnations.append(incarnation)
        done = asyncio.get_running_loop().create_future()
        with acting_as(incarnation):
            task = asyncio.get_running_loop().create_task(self._supervise(incarnation, done))
        self._graveyard.append(task)
        await asyncio.wait([done], timeout=1.0)

    async def _supervise(self, incarnation: Incarnation, done: asyncio.Future[None]) -> None:
        made = Supervisor(
            self.definitions,
            state_dir=self.state,
            resolve=lambda definition: Launch(command=definition.command),
            platform=SimPlatform(self.kernel, incarnation, self.effect),
            prober=SimProber(self.kernel),  # type: ignore[arg-type]
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
            self.trace("not-started", type(error).__name__)
            self.on_failed_start(error)
            made.release()
            incarnation.dead = True
        else:
            incarnation.supervisor = made
            self.trace("supervisor", incarnation.number)
            self.on_start(made)
        if not done.done():
            done.set_result(None)

    # Deaths

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

    def cut_power(self) -> None:
        """Cut the power: no process survives, and files that were not synced may be lost."""
        for incarnation in self.incarnations:
            self.die(incarnation)
        self.trace("power-cut")
        self.rivals.clear()
        self.kernel.reboot()
        self.disk.cut()

    def let_rivals_go(self) -> None:
        for _, description in self.rivals.values():
            self.kernel.drop(description, "rival")
        self.rivals.clear()

    def end(self) -> None:
        """Kill all supervisors, and close what the kernel closes when one dies."""
        for incarnation in self.incarnations:
            incarnation.dead = True
            if incarnation.supervisor is not None:
                self._graveyard.append(incarnation.supervisor)
        for made in self._graveyard:
            if isinstance(made, Supervisor):
                _close_files(made)

    def forget(self) -> None:
        """Let go of dead supervisors, once nothing of them can run any more."""
        self._graveyard.clear()


def _close_files(supervisor: Supervisor) -> None:
    claim = supervisor.upkeep._claim
    if claim._descriptor >= 0:
        os.close(claim._descriptor)
        claim._descriptor = -1
    if supervisor._fleet is not None:
        supervisor.journal.close()
