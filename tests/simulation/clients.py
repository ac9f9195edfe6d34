"""The programs that use the daemons of a world: their leases, needs and inhibitors, as they themselves know them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from neo_daemons.status import Holder, Needed
from neo_daemons.supervision.machine import Refused
from neo_daemons.supervision.supervisor import Supervisor

from .incarnations import Killed, acting_as
from .world import World

WAITS_S = (0.5, 3.0, 60.0, 60.0)
"""How long the need of a client waits."""


class Lease(NamedTuple):
    """What keeps a daemon, or (`name` is None) all."""

    made: Supervisor
    name: str | None
    inhibits: bool


class Wait(NamedTuple):
    """A need that has not been answered."""

    made: Supervisor
    name: str
    since: float
    wait_s: float


class Clients:
    """All clients of all supervisors. A supervisor that is killed takes its leases along."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._leases: dict[int, Lease] = {}
        self._waits: dict[int, Wait] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self.on_ask: Callable[[str], None] = lambda name: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_answer: Callable[[Wait, Needed], None] = lambda wait, needed: None

    # What they have

    def hold(self, made: Supervisor, name: str) -> bool:
        """Whether a client has a lease on a daemon, or waits for it."""
        held = any(one.made is made and one.name == name and not one.inhibits for one in self._leases.values())
        return held or any(wait.made is made and wait.name == name for wait in self._waits.values())

    def lease(self, made: Supervisor, name: str) -> bool:
        """Whether a client has a lease on a daemon."""
        return any(one.made is made and one.name == name and not one.inhibits for one in self._leases.values())

    def inhibit(self, made: Supervisor, name: str) -> bool:
        """Whether a client has asked that a daemon be left as it is."""
        leases = [one for one in self._leases.values() if one.made is made and one.inhibits]
        return any(one.name in (None, name) for one in leases)

    def waits(self, made: Supervisor) -> list[Wait]:
        """Return the needs that a supervisor has not answered."""
        return [wait for wait in self._waits.values() if wait.made is made]

    # What they do

    def take(self, name: str | None, *, inhibits: bool = False) -> int:
        """Take a lease on a daemon, or an inhibitor (None: on all). Returns its number."""
        made, number = self._world.serving, next(self._numbers)
        if made is None:
            return number
        self._leases[number] = Lease(made, name, inhibits)
        self._world.trace("inhibit" if inhibits else "lease", number, name)
        with self._as_a_request(made):
            if inhibits:
                made.demand.inhibit(number, name)
            elif name is not None:
                self.on_ask(name)
                made.demand.take(number, Holder(name=f"client {number}", pid=None, since=0.0), [name])
        return number

    def let_go(self, *, inhibits: bool | None = None) -> None:
        """Have one client give up its lease, or die."""
        numbers = [n for n, one in self._leases.items() if inhibits in (None, one.inhibits)]
        if numbers:
            self.give_up(self._world.rng.choice(numbers))

    def give_up(self, number: int) -> None:
        """Have the client give up a lease, unless it has died."""
        if number not in self._leases:
            return
        made = self._leases.pop(number).made
        self._world.trace("let-go", number)
        if made is self._world.serving:
            with self._as_a_request(made):
                made.demand.give_up(number)

    def let_all_go(self) -> None:
        """Have all clients die."""
        while self._leases:
            self.let_go()

    def need(self, name: str) -> None:
        """Have a client need a daemon, without a lease."""
        made = self._world.serving
        if made is None:
            return
        number = next(self._numbers)
        wait = Wait(made, name, self._world.kernel.now, self._world.rng.choice(WAITS_S))
        self._world.trace("need", number, name, wait.wait_s)
        self._tasks[number] = self._world.begin(made, self._need(number, wait))

    async def _need(self, number: int, wait: Wait) -> None:
        self._waits[number] = wait
        self.on_ask(wait.name)
        self.on_change()
        try:
            needed = await wait.made.needs.need(wait.name, wait.wait_s)
        except Refused:
            return
        finally:
            self._waits.pop(number, None)
            self.on_change()
        self._world.trace("answer", number, needed.daemon.state, needed.failure)
        self.on_answer(wait, needed)

    def cut_off(self) -> None:
        """Have a client die that waits."""
        waiting = [number for number, task in self._tasks.items() if not task.done()]
        if waiting:
            number = self._world.rng.choice(waiting)
            self._world.trace("cut-off", number)
            self._tasks.pop(number).cancel()

    @contextlib.contextmanager
    def _as_a_request(self, made: Supervisor) -> Iterator[None]:
        """Run code in the process of a supervisor, which may be killed by its own effects."""
        with acting_as(self._world.owner(made)), contextlib.suppress(Killed):
            yield
        self.on_change()
