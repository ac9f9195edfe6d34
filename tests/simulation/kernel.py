"""A simulated kernel: processes, signals, locks and ports, with pids that are reused as soon as they are free."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable

from neo_daemons.records import Identity
from neo_daemons.supervision.platform import MARK_VARIABLE, ExitStatus, Mark, SpawnSpec

from .incarnations import Incarnation, acting_as

FIRST_PID, PIDS = 300, 40
"""Few, so that pids are soon reused."""
FIRST_INODE = 10
FIRST_DESCRIPTOR = 1_000_000
"""First descriptor number of simulated locks: far from those of files."""


class Description:
    """An open file with a lock on it, held as long as any process has it open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.holders: set[object] = set()


class Behaviour:
    """The behaviour of a program: when it is up, how it handles SIGTERM, when and how it exits."""

    def __init__(self) -> None:
        self.boot_s = 0.1
        self.term_s: float | None = 0.05
        """Seconds from SIGTERM to its exit; None: it ignores SIGTERM."""
        self.ends_after_s: float | None = None
        self.exit = ExitStatus(code=1)
        self.launcher = False
        """Whether it forks the daemon and exits."""
        self.stray = False
        """Whether it leaves a process in its own session."""
        self.stray_term_s: float | None = 0.05
        self.stray_has_lock = True
        """Whether a process that it leaves keeps the descriptors that it inherits."""


class Proc:
    """A simulated process."""

    def __init__(self, pid: int, inode: int, boot_id: str, started: float, kind: str, name: str) -> None:
        self.pid = pid
        self.identity = Identity(boot_id=boot_id, start_time=started, inode=inode)
        self.kind = kind
        """daemon, stray, or stranger."""
        self.name = name
        self.group = pid
        self.group_of = inode
        """Distinguishes this group from another one with the same number."""
        self.parent: Incarnation | None = None
        """The supervisor that spawned it or, for a subreaper, one of its ancestors."""
        self.forker: Proc | None = None
        """The process of the daemon that forked it; None if the supervisor spawned it."""
        self.mark: str | None = None
        self.env: dict[str, str] = {}
        self.number = 0
        """Which run of its daemon it belongs to, from the first one of the world on."""
        self.stands_on: dict[str, int] = {}
        """Other daemon → the number of its latest run when this one began."""
        self.told_port: int | None = None
        """The port that its command names."""
        self.locks: set[Description] = set()
        self.ports: set[int] = set()
        self.behaviour = Behaviour()
        self.status: ExitStatus | None = None
        self.stopped = False
        self.hung = False
        self.unwell_at = started
        """The last time at which it was not up and answering."""
        self.up_at = started
        """When it began to listen."""
        self.answered_at = started
        """The last time at which it answered a probe."""
        self.pending_term = False
        self.termed_at: float | None = None
        self.watchers: list[Callable[[], None]] = []

    def fall_silent(self, now: float, *, stopped: bool) -> None:
        """Whether it runs but no longer answers."""
        self.stopped, self.hung = self.stopped or stopped, self.hung or not stopped
        self.unwell_at = now

    @property
    def alive(self) -> bool:
        return self.status is None

    @property
    def is_orphan(self) -> bool:
        """Whether it, or an ancestor of it, was re-parented."""
        return self.forker is not None and (not self.forker.alive or self.forker.is_orphan)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} pid {self.pid}{'' if self.alive else ' ended'}>"


class Kernel:
    """The simulated machine."""

    def __init__(self, rng: random.Random, trace: Callable[..., None]) -> None:
        self.rng = rng
        self.trace = trace
        self.table: dict[int, Proc] = {}
        self.descriptions: dict[int, Description] = {}
        self._locks: dict[str, Description] = {}
        self._inodes = FIRST_INODE
        self._boots = 1
        self._runs: dict[str, int] = {}
        self.decide: Callable[[str, SpawnSpec], Behaviour] = lambda name, spec: Behaviour()
        self.on_signal: Callable[[Proc, int], None] = lambda proc, signum: None
        self.on_spawn: Callable[[Proc], None] = lambda proc: None

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def living(self, *kinds: str) -> list[Proc]:
        return [proc for proc in self.table.values() if proc.alive and (not kinds or proc.kind in kinds)]

    @property
    def newest(self) -> int:
        """Grows with each process."""
        return self._inodes

    @property
    def boot_id(self) -> str:
        return f"boot {self._boots}"

    def reboot(self) -> None:
        """Kill all processes without notice; pids and inodes start from the beginning."""
        for proc in self.table.values():
            proc.status = proc.status or ExitStatus(signal="SIGKILL")
            proc.ports.clear()
            proc.watchers.clear()
        self.table.clear()
        for description in self._locks.values():
            description.holders.clear()
        self._boots += 1
        self._inodes = FIRST_INODE

    # Processes

    def make(self, kind: str, name: str, pid: int | None = None) -> Proc:
        taken = {*self.table, *(proc.group for proc in self.table.values())}
        free = [pid for pid in range(FIRST_PID, FIRST_PID + PIDS) if pid not in taken]
        self._inodes += 1
        proc = Proc(
            pid if pid in free else self.rng.choice(free), self._inodes, self.boot_id, round(self.now, 2), kind, name
        )
        self.table[proc.pid] = proc
        return proc

    def spawn(self, parent: Incarnation, spec: SpawnSpec) -> Proc:
        mark = Mark.parse(spec.env.get(MARK_VARIABLE, ""))
        name = mark.name if mark is not None else "?"
        proc = self.make("daemon", name)
        proc.parent = parent
        proc.mark = spec.env.get(MARK_VARIABLE)
        proc.env, proc.stands_on = dict(spec.env), dict(self._runs)
        proc.number = self._runs[name] = self._runs.get(name, 0) + 1
        proc.told_port = next(iter(_ports(spec)), None)
        proc.behaviour = self.decide(name, spec)
        for descriptor in spec.inherit:
            description = self.descriptions[descriptor]
            description.holders.add(proc)
            proc.locks.add(description)
        self.trace("spawn", proc)
        self._begin(proc, spec)
        self.on_spawn(proc)
        return proc

    def _begin(self, proc: Proc, spec: SpawnSpec) -> None:
        behaviour = proc.behaviour
        if behaviour.launcher:
            self._later(0.02, proc, lambda: self._launch(proc, spec))
            return
        self._later(behaviour.boot_s, proc, lambda: self._up(proc, spec))
        if behaviour.stray:
            self._later(behaviour.boot_s / 2, proc, lambda: self.fork(proc, "stray", session=True))
        if behaviour.ends_after_s is not None:
            self._later(behaviour.ends_after_s, proc, lambda: self.exit(proc, behaviour.exit))

    def _launch(self, proc: Proc, spec: SpawnSpec) -> None:
        child = self.fork(proc, "daemon", session=True)
        child.behaviour = self.decide(proc.name, spec)
        child.behaviour.launcher = False
        self._begin(child, spec)
        self.exit(proc, ExitStatus(code=0))

    def _up(self, proc: Proc, spec: SpawnSpec) -> None:
        wanted = _ports(spec)
        if any(wanted & other.ports for other in self.living()):
            self.exit(proc, ExitStatus(code=self.rng.choice((0, 1))))
            return
        proc.ports |= wanted
        proc.unwell_at = proc.up_at = self.now

    def fork(self, proc: Proc, kind: str, *, session: bool) -> Proc:
        child = self.make(kind, proc.name)
        child.mark, child.env, child.told_port = proc.mark, proc.env, proc.told_port
        child.number, child.stands_on = proc.number, proc.stands_on
        child.forker = proc
        child.parent = proc.parent if proc.parent is not None and proc.parent.is_subreaper else None
        if not session:
            child.group, child.group_of = proc.group, proc.group_of
        if kind != "stray" or proc.behaviour.stray_has_lock:
            for description in proc.locks:
                description.holders.add(child)
                child.locks.add(description)
        child.behaviour.term_s = proc.behaviour.stray_term_s
        self.trace("fork", proc, child)
        return child

    def _later(self, delay_s: float, proc: Proc, then: Callable[[], object]) -> None:
        def due() -> None:
            if not proc.alive:
                return
            if proc.stopped:
                self._later(0.1, proc, then)
            else:
                then()

        with acting_as(None):
            asyncio.get_running_loop().call_later(delay_s, due)

    def exit(self, proc: Proc, status: ExitStatus) -> None:
        if not proc.alive:
            return
        self.trace("exit", proc, status)
        proc.status = status
        proc.ports.clear()
        for description in list(proc.locks):
            self.drop(description, proc)
        proc.locks.clear()
        for watcher in proc.watchers:
            watcher()
        if proc.parent is None or proc.parent.dead or proc.forker is not None:
            self.reap(proc)

    def reap(self, proc: Proc) -> None:
        if self.table.get(proc.pid) is proc:
            del self.table[proc.pid]

    def deliver(self, proc: Proc, signum: int) -> None:
        if not proc.alive or signum == 0:
            return
        self.trace("signal", proc, signum)
        if signum == signal.SIGKILL:
            self.exit(proc, ExitStatus(signal="SIGKILL"))
        elif signum == signal.SIGSTOP:
            proc.fall_silent(self.now, stopped=True)
        elif signum == signal.SIGCONT:
            if proc.stopped:
                proc.stopped, proc.unwell_at = False, self.now
            if proc.pending_term:
                proc.pending_term = False
                self._terminate(proc)
        elif proc.stopped:
            proc.pending_term = True
        else:
            self._terminate(proc)

    def _terminate(self, proc: Proc) -> None:
        if proc.behaviour.term_s is not None:
            self._later(proc.behaviour.term_s, proc, lambda: self.exit(proc, ExitStatus(signal="SIGTERM")))

    # Locks

    def take(self, path: str, holder: object) -> tuple[int, Description] | None:
        held = self._locks.get(path)
        if held is not None and held.holders:
            return None
        description = self._locks[path] = Description(path)
        description.holders.add(holder)
        number = FIRST_DESCRIPTOR + len(self.descriptions)
        self.descriptions[number] = description
        return number, description

    def drop(self, description: Description, holder: object) -> None:
        description.holders.discard(holder)

    def held(self, path: str) -> Description | None:
        found = self._locks.get(path)
        return found if found is not None and found.holders else None

    def locked(self) -> list[str]:
        return [path for path, description in self._locks.items() if description.holders]

    def bury(self, incarnation: Incarnation) -> None:
        """Handle the death of a supervisor: free its locks, and let the kernel reap its children."""
        for description in self._locks.values():
            self.drop(description, incarnation)
        for proc in list(self.table.values()):
            if proc.parent is incarnation and not proc.alive:
                self.reap(proc)


def _ports(spec: SpawnSpec) -> set[int]:
    """Return the ports that a command names."""
    return {int(part[5:]) for part in spec.command if part.startswith("port=")}
