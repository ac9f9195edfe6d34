"""What befalls a world: crashes, hangs, kills, orders of operators, full disks, strangers, forged records, …"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import msgspec

from neo_daemons import records
from neo_daemons.definitions import Definition
from neo_daemons.records import DaemonRecord, DamagedRecord
from neo_daemons.supervision.machine import Event, Refused
from neo_daemons.supervision.platform import ExitStatus
from neo_daemons.supervision.slot import DATA_LOCK
from neo_daemons.supervision.supervisor import Supervisor

from .clients import Clients
from .daemons import INTERVAL_S, are_connected, are_on_demand, flipped, references
from .demand import DemandJudge
from .expectations import Expectations
from .incarnations import Killed, acting_as
from .judges import Judges
from .kernel import Proc
from .world import World

SAVED_S = 1.5
"""Time limit within which the core writes what a full disk refused, once there is space."""
ORDERED_S, RELOADED_S, FORGED_S = 10.0, 20.0, 90.0
"""Durations for which a daemon may be stopped after an order, a reload and the forgery of its record."""
STRANGERS = 8
FIXED_PORTS = set(range(10_000, 10_003))
CALAMITIES = (
    "crash-and-order",
    *("crash",) * 4, *("exit",) * 3, "stop", "continue", "hang", "hiccup", "hiccup", "stray", "stray",
    "stranger", "stranger", "strangers-leave", *("kill-supervisor",) * 2, *("kill-at-an-effect",) * 4,
    "second-supervisor", *("order",) * 4, "disk-full", "disk-free", "disk-free", *("clock",) * 2, "reload", "recycle",
    "power-cut", "forgery", *("inhibit",) * 2, "client-vanishes", *("rival",) * 2, *("rivals-leave",) * 2,
)  # fmt: skip
ON_DEMAND = ("lease",) * 4 + ("need",) * 2 + ("let-go",) * 4 + ("cut-off", "storm", "flip")
"""Further calamities of a world in which something is on demand."""
CONNECTED = ("theft",) * 2 + ("change-below",)
"""Further calamities of a world in which something stands on another daemon's port or run."""
ORDERS = (Event.START, Event.STOP, Event.RESTART, Event.HOLD, Event.RELEASE)


class Calamities:
    """Causes random events, and notes what may follow from them."""

    def __init__(
        self, world: World, expectations: Expectations, judges: Judges, clients: Clients, demand: DemandJudge
    ) -> None:
        self._world = world
        self._kernel = world.kernel
        self._rng = world.rng
        self._expectations = expectations
        self._judges = judges
        self._kinds = [*CALAMITIES]
        if are_on_demand(world.definitions):
            self._kinds += ON_DEMAND
        if are_connected(world.definitions):
            self._kinds += CONNECTED
        self._clients = clients
        self._demand = demand

    async def befall(self) -> None:
        """Cause one random event."""
        world, rng, kernel = self._world, self._rng, self._kernel
        daemons = kernel.living("daemon")
        target = rng.choice(daemons) if daemons else None
        match rng.choice(self._kinds):
            case "crash" if target is not None:
                kernel.exit(target, ExitStatus(signal="SIGKILL"))
            case "exit" if target is not None:
                kernel.exit(target, ExitStatus(code=rng.choice((0, 1))))
            case "crash-and-order" if target is not None:
                # While leftovers of a daemon are being stopped.
                kernel.exit(target, ExitStatus(signal="SIGKILL"))
                await asyncio.sleep(rng.choice((0.002, 0.01, 0.03)))
                self._order(target.name, rng.choice(ORDERS))
            case "stop" if target is not None:
                kernel.deliver(target, signal.SIGSTOP)
            case "continue" if target is not None:
                kernel.deliver(target, signal.SIGCONT)
            case "hang" if target is not None:
                target.fall_silent(kernel.now, stopped=False)
            case "hiccup" if target is not None:
                self._hiccup(target)
            case "stray" if target is not None:
                kernel.fork(target, "stray", session=rng.random() < 0.5)
                if rng.random() < 0.5:
                    kernel.exit(target, ExitStatus(signal="SIGSEGV"))
            case "stranger":
                self._stranger(rng.choice((None, *range(10_000, 10_003))))
            case "strangers-leave":
                self.let_strangers_go()
            case "kill-supervisor":
                self._kill_supervisor()
            case "recycle" if target is not None:
                # A daemon exits while no supervisor runs, and another process gets its pid.
                self._kill_supervisor()
                kernel.exit(target, ExitStatus(code=1))
                world.trace("stranger", kernel.make("stranger", "stranger", target.pid))
            case "kill-at-an-effect":
                world.kill_in = rng.randint(1, 25)
            case "second-supervisor":
                await world.supervise()
            case "order":
                self._order(rng.choice(world.definitions).name, rng.choice(list(ORDERS)))
            case "disk-full":
                world.disk.full = True
            case "disk-free":
                await self._free_disk()
            case "power-cut":
                world.cut_power()
            case "forgery" if target is not None:
                self._forge(target)
            case "inhibit":
                self._clients.take(rng.choice((None, *self._names())), inhibits=True)
            case "client-vanishes":
                self._clients.let_go(inhibits=True)
            case "lease":
                self._clients.take(rng.choice(self._names()))
            case "need":
                self._clients.need(rng.choice(self._names()))
            case "let-go":
                self._clients.let_go(inhibits=False)
            case "cut-off":
                self._clients.cut_off()
            case "storm":
                await self._storm(rng.choice(self._names()))
            case "change-below":
                await self._change_below()
            case "theft" if target is not None:
                self._steal_port(target)
            case "rival":
                self._rival()
            case "rivals-leave":
                world.let_rivals_go()
            case "clock":
                world.clock.offset_s += rng.choice((-86_400.0, -1.0, 3600.0, 400 * 86_400.0))
            case "reload":
                self._reload(flip=False)
            case "flip":
                self._reload(flip=True)
            case _:
                return

    # To daemons

    def _hiccup(self, target: Proc) -> None:
        """Let it be silent for a moment, too short to fail its liveness."""
        target.fall_silent(self._kernel.now, stopped=False)

        def recover() -> None:
            target.hung, target.unwell_at = False, self._kernel.now

        asyncio.get_running_loop().call_later(INTERVAL_S, recover)

    def _forge(self, target: Proc) -> None:
        """Let the record of a daemon name a stranger, with its full identity, while no supervisor runs."""
        self._kill_supervisor()
        strangers, path = self._kernel.living("stranger"), self._world.state.daemon_record(target.name)
        with contextlib.suppress(OSError, DamagedRecord):
            record = records.read(path, DaemonRecord)
            if record is not None and strangers:
                stranger = self._rng.choice(strangers)
                self._world.trace("forgery", target, stranger)
                forged = msgspec.structs.replace(record, pid=stranger.pid, identity=stranger.identity)
                path.write_bytes(msgspec.json.encode(forged))
                # Its processes can no longer be distinguished from leftovers.
                self._expectations.license(target.name, self._kernel.now + FORGED_S)

    # To supervisors and the disk

    def _kill_supervisor(self) -> None:
        for incarnation in self._world.incarnations:
            if incarnation.supervisor is not None:
                self._world.die(incarnation)
        self._judges.files()

    async def _free_disk(self) -> None:
        world, expected = self._world, self._expectations
        world.disk.full = False
        # The core writes what it could not write as soon as it can.
        await asyncio.sleep(SAVED_S)
        expected.held_saved = expected.held_saved or (world.serving is not None and not world.disk.full)

    # From the rest of the machine

    def _stranger(self, port: int | None) -> None:
        if len(self._kernel.living("stranger")) > STRANGERS:
            return
        proc = self._kernel.make("stranger", "stranger")
        if port is not None and not any(port in other.ports for other in self._kernel.living()):
            proc.ports.add(port)
        self._world.trace("stranger", proc, port)

    def let_strangers_go(self) -> None:
        for proc in self._kernel.living("stranger"):
            self._kernel.exit(proc, ExitStatus(code=0))

    def _steal_port(self, target: Proc) -> None:
        """Let a daemon exit and a stranger take its port, so that it comes back on another one."""
        ports = target.ports - FIXED_PORTS
        self._kernel.exit(target, ExitStatus(signal="SIGKILL"))
        if ports and len(self._kernel.living("stranger")) <= STRANGERS:
            thief = self._kernel.make("stranger", "stranger")
            thief.ports |= ports
            self._world.trace("theft", thief, ports)

    async def _change_below(self) -> None:
        """Change what a daemon stands on while a client uses that daemon."""
        rng = self._rng
        below = {one.name: {*references(one), *one.cascades} for one in self._world.definitions}
        names = [name for name, others in below.items() if others]
        if not names:
            return
        name = rng.choice(names)
        lease = self._clients.take(name, inhibits=True)
        for proc in self._kernel.living("daemon"):
            if proc.name in below[name]:
                self._steal_port(proc)
        await asyncio.sleep(rng.choice((1.5, 3.0)))
        self._clients.give_up(lease)

    def _rival(self) -> None:
        definition = self._rng.choice(self._world.definitions)
        if definition.data_dir is not None:
            # The name is a contract between projects: changing it affects earlier versions.
            taken = self._kernel.take(str(Path(definition.data_dir) / DATA_LOCK), "rival")
            if taken is not None:
                self._world.rivals[definition.name] = taken
                self._world.trace("rival", definition.name)

    # From clients and operators

    def _names(self) -> list[str]:
        return [definition.name for definition in self._world.definitions]

    async def _storm(self, name: str) -> None:
        """Let many clients come and go."""
        rng, clients = self._rng, self._clients
        for _ in range(rng.randint(4, 10)):
            match rng.choice(("lease", "lease", "need", "let-go", "let-go", "let-go", "cut-off")):
                case "lease":
                    clients.take(name)
                case "need":
                    clients.need(name)
                case "let-go":
                    clients.let_go(inhibits=False)
                case "cut-off":
                    clients.cut_off()
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.001, 0.02, 0.3)))

    def _order(self, name: str, event: Event) -> None:
        """Give an order as an operator."""
        world = self._world
        made = world.serving
        if made is None or world.kill_in is not None:
            return
        world.trace("order", name, event)
        self._expectations.forgive_starts()
        # Dependants are not stopped with it, but may exit without it.
        self._expectations.license(name, self._kernel.now + ORDERED_S)
        with acting_as(world.owner(made)):
            try:
                made.order(name, event)
            except (Refused, Killed):
                return
        self._expectations.accepted(made, name, event, saved=not world.disk.full)

    def _reload(self, *, flip: bool) -> None:
        """Reload with a definition that requires a new process, or (`flip`) one that starts by the other rule."""
        world = self._world
        made = world.serving
        if made is None:
            return
        number = self._rng.randrange(len(world.definitions))
        old = world.definitions[number]
        if flip:
            world.definitions[number] = flipped(self._rng, old)
            self._demand.flips.add(old.name)
        else:
            env = {**old.env, "GENERATION": str(self._rng.random())}
            world.definitions[number] = msgspec.structs.replace(old, env=env)
            self._expectations.license(old.name, self._kernel.now + RELOADED_S)
        world.trace("flip" if flip else "reload", old.name)
        self._expectations.forgive_starts()
        world.begin(made, self._reloaded(made, list(world.definitions)))

    async def _reloaded(self, made: Supervisor, definitions: list[Definition]) -> None:
        self._demand.reloads += 1
        try:
            await made.reload(definitions)
        finally:
            if made is self._world.serving:
                self._demand.reload_ended()
