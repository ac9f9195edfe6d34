"""What happens in a world from beginning to end: trouble, then calm, then a stop, all in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from neo_daemons.supervision import census, claim

from .calamities import Calamities
from .clients import Clients
from .demand import DemandJudge
from .expectations import Expectations
from .incarnations import Loop
from .judges import Judges
from .platform import SimFileLock
from .world import World

TROUBLE_S = 40.0
"""Duration of the trouble."""
CALM_S = 90.0
"""Everything wanted must be up within this time after the trouble."""
PATIENCE_S = 30.0
"""Time limit of a stop."""


class Scenario:
    """Drives a world, and has it judged at every step."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._expectations = Expectations(world.definitions)
        self._clients = Clients(world)
        demand = DemandJudge(world, self._clients, self._expectations)
        self._judges = Judges(world, self._expectations, demand)
        self._calamities = Calamities(world, self._expectations, self._judges, self._clients, demand)
        self._ended = False

    def run(self) -> None:
        """Run it. `World.violation` is the first violation, if there is one."""
        world, loop = self._world, Loop()
        loop.set_exception_handler(self._fault)
        with _patched(world, loop.time):
            try:
                with contextlib.suppress(RuntimeError):  # stopped, by a violation
                    loop.run_until_complete(self._live())
                if world.violation is None and not self._ended:
                    raise AssertionError(f"seed {world.seed}: the world has stalled")
            finally:
                world.end()
                loop.bury_tasks(world.incarnations[0])
                loop.close()
                world.forget()

    async def _live(self) -> None:
        world = self._world
        await world.supervise()
        await self._trouble()
        await self._calm()
        if world.violation is None:
            self._judges.after_the_calm()
        if world.violation is None:
            await self._stop()
        self._ended = True

    async def _trouble(self) -> None:
        world, loop = self._world, asyncio.get_running_loop()
        while loop.time() < TROUBLE_S and world.violation is None:
            await asyncio.sleep(world.rng.choice((0.0, 0.003, 0.05, 0.5, 3.0)))
            await self._calamities.befall()
            self._judges.at_any_time()
            if world.serving is None and world.rng.random() < 0.5:
                await world.supervise()
                if world.rng.random() < 0.2:
                    await world.supervise()

    async def _calm(self) -> None:
        world, loop = self._world, asyncio.get_running_loop()
        world.calm, world.disk.full, world.kill_in = True, False, None
        self._calamities.let_strangers_go()
        world.let_rivals_go()
        if world.serving is None:
            await world.supervise()
        self._users_in_the_calm()
        until = loop.time() + CALM_S
        while loop.time() < until and world.violation is None:
            await asyncio.sleep(1.0)
            self._judges.at_any_time()

    def _users_in_the_calm(self) -> None:
        """What is recycled for its age is not recycled at the end; some of what is on demand is used until then."""
        rng, clients = self._world.rng, self._clients
        if rng.random() < 0.5:
            clients.let_all_go()
        if rng.random() < 0.25:
            clients.take(None, inhibits=True)
            return
        for definition in self._world.definitions:
            if definition.max_runtime_s is not None:
                clients.take(definition.name, inhibits=True)
            elif rng.random() < 0.5:
                clients.take(definition.name)

    async def _stop(self) -> None:
        world, made = self._world, self._world.serving
        assert made is not None
        owner = world.owner(made)
        for definition in world.definitions:
            self._expectations.license(definition.name, float("inf"))
        task = world.begin(made, made.stop())
        done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
        if not done:
            world.violated(f"I6: a stop takes more than {PATIENCE_S:g} s")
            return
        task.result()
        made.release()
        owner.supervisor = None
        self._judges.after_the_stop()

    def _fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._judges.fault(context.get("message"), context.get("exception"))


@contextlib.contextmanager
def _patched(world: World, now: Callable[[], float]) -> Iterator[None]:
    """Time, files and what is random, for all code that runs meanwhile."""
    rng = random.Random(world.seed + 1)
    with (
        world.disk.patched(),
        mock.patch.object(time, "time", lambda: world.clock.time(now())),
        mock.patch.object(time, "time_ns", lambda: int(world.clock.time(now()) * 1e9)),
        mock.patch.object(time, "monotonic", lambda: 1000.0 + now()),
        mock.patch("secrets.token_hex", lambda size: rng.randbytes(size).hex()),
        mock.patch.object(claim, "supervisor_lock", functools.partial(SimFileLock, world.kernel)),
        mock.patch.object(census, "SLICE", 1),
        mock.patch.object(census, "_give_way", lambda: asyncio.sleep(rng.choice((0.0, 0.005, 0.05)))),
    ):
        yield


def live(seed: int) -> World:
    """Run the world of a seed and return it."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    root = Path(tempfile.mkdtemp(prefix="simulated-", dir=base))
    errors = io.StringIO()
    try:
        gc.disable()
        with contextlib.redirect_stderr(errors):
            world = World(seed, root)
            Scenario(world).run()
            return world
    finally:
        gc.enable()
        shutil.rmtree(root, ignore_errors=True)
