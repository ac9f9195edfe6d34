"""A simulated kernel: processes, signals, locks and ports, with pids that are reused as soon as they are free."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import random
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neo_daemons.records import Identity
from neo_daemons.supervision.platform import MARK_VARIABLE, ExitStatus, Lock, Mark, NotOurs, Process, SpawnSpec
from neo_daemons.supervision.platform.contract import PortHolder, Usage
from tests.virtual import VirtualLoop

FIRST_PID, PIDS = 300, 40
"""Few, so that pids are soon reused."""
FIRST_INODE = 10
FIRST_DESCRIPTOR = 1_000_000
"""First descriptor number of simulated locks: far from those of files."""


class Killed(BaseException):
    """The running supervisor was killed: nothing that it does from here on has an effect."""


class Violation(AssertionError):
    """An invariant is broken."""


class Incarnation:
    """One process of a supervisor."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.dead = False
        self.is_subreaper = False
        self.supervisor: Any = None


running: contextvars.ContextVar[Incarnation | None] = contextvars.ContextVar("running", default=None)


class Loop(VirtualLoop):
    """An event loop that runs no callback of a dead incarnation."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[asyncio.Task[Any]] = []
        """All incarnations ever: forgetting a dead one would run its cleanup."""
        self.set_task_factory(self._make)

    def _make(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.Task(work, loop=self, **options))
        return self.tasks[-1]

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_soon(self._living(callback, context), *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_at(when, self._living(callback, context), *args, context=context)

    @staticmethod
    def _living(callback: Any, context: Any) -> Any:
        owner = running.get() if context is None else context.get(running)
        if owner is None:
            return callback

        def call(*args: Any) -> None:
            if not owner.dead:
                callback(*args)

        return call


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
        self.locks: set[Description] = set()
        self.ports: set[int] = set()
        self.behaviour = Behaviour()
        self.status: ExitStatus | None = None
        self.stopped = False
        self.hung = False
        self.unwell_at = started
        """The last time at which it was not up and answering."""
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
        self.decide: Callable[[str, SpawnSpec], Behaviour] = lambda name, spec: Behaviour()
        self.on_signal: Callable[[Proc, int], None] = lambda proc, signum: None
        self.on_spawn: Callable[[Proc], None] = lambda proc: None

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def living(self, *kinds: str) -> list[Proc]:
        return [proc for proc in self.table.values() if proc.alive and (not kinds or proc.kind in kinds)]

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
        wanted = {int(part[5:]) for part in spec.command if part.startswith("port=")}
        if any(wanted & other.ports for other in self.living()):
            self.exit(proc, ExitStatus(code=self.rng.choice((0, 1))))
            return
        proc.ports |= wanted
        proc.unwell_at = self.now

    def fork(self, proc: Proc, kind: str, *, session: bool) -> Proc:
        child = self.make(kind, proc.name)
        child.mark = proc.mark
        child.forker = proc
        child.parent = proc.parent if proc.parent is not None and proc.parent.is_subreaper else None
        if not session:
            child.group, child.group_of = proc.group, proc.group_of
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

        token = running.set(None)
        asyncio.get_running_loop().call_later(delay_s, due)
        running.reset(token)

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


class SimProcess(Process):
    """A handle on a process, like a pidfd."""

    def __init__(self, platform: SimPlatform, proc: Proc, *, is_child: bool) -> None:
        self.pid = proc.pid
        self.identity = proc.identity
        self.is_child = is_child
        self.proc = proc
        self._platform = platform
        self._kernel = platform.kernel
        self._watcher: Callable[[], None] | None = None
        self._on_exit: Callable[[ExitStatus], None] | None = None

    def watch(
        self, on_exit: Callable[[ExitStatus], None], on_learned: Callable[[ExitStatus], None] | None = None
    ) -> None:
        self._on_exit = on_exit
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()

        def ended() -> None:
            loop.call_later(self._kernel.rng.choice((0.0, 0.0, 0.001)), report, context=context)

        def report() -> None:
            status = self.proc.status
            assert status is not None
            if self.is_child:
                self._kernel.reap(self.proc)
            elif self._kernel.rng.random() < 0.5:
                # The kernel does not report it yet.
                if on_learned is not None:
                    loop.call_later(0.1, on_learned, status, context=context)
                status = ExitStatus()
            on_exit, self._on_exit = self._on_exit, None
            if on_exit is not None:
                on_exit(status)

        self._watcher = ended
        if self.proc.alive:
            self.proc.watchers.append(ended)
        else:
            ended()

    def is_alive(self) -> bool:
        return self.proc.alive

    def is_stopped(self) -> bool:
        return self.proc.alive and self.proc.stopped

    def signal(self, signum: int) -> bool:
        self._platform.effect("signal")
        if self._kernel.table.get(self.pid) is not self.proc:
            return False
        if signum:
            self._kernel.on_signal(self.proc, signum)
        self._kernel.deliver(self.proc, signum)
        return True

    def signal_group(self, signum: int) -> bool:
        self._platform.effect("signal-group")
        # The number of a group is taken for as long as it has a member; the handle leads to the group itself.
        members = [proc for proc in self._kernel.living() if proc.group_of == self.proc.group_of]
        for proc in members:
            if signum:
                self._kernel.on_signal(proc, signum)
            self._kernel.deliver(proc, signum)
        return bool(members)

    def close(self) -> None:
        self._on_exit = None
        if self._watcher in self.proc.watchers:
            self.proc.watchers.remove(self._watcher)


class SimLock(Lock):
    """A lock that a supervisor holds."""

    def __init__(self, platform: SimPlatform, path: Path, number: int, description: Description) -> None:
        self.path = path
        self._platform = platform
        self._number = number
        self._description = description

    def fileno(self) -> int:
        return self._number

    def is_at_its_path(self) -> bool:
        return True

    def release(self) -> None:
        self._platform.kernel.drop(self._description, self._platform.incarnation)


class SimPlatform:
    """The platform of one incarnation; see `neo_daemons.supervision.platform.contract.Platform`."""

    name = "simulated"

    def __init__(self, kernel: Kernel, incarnation: Incarnation, effect: Callable[[str], None]) -> None:
        self.kernel = kernel
        self.incarnation = incarnation
        self.effect = effect

    def boot_id(self) -> str:
        return self.kernel.boot_id

    def own_identity(self) -> Identity:
        return Identity(boot_id=self.kernel.boot_id, start_time=0.0, inode=self.incarnation.number)

    def spawn(self, spec: SpawnSpec) -> Process:
        self.effect("before-spawn")
        proc = self.kernel.spawn(self.incarnation, spec)
        self.effect("after-spawn")
        return SimProcess(self, proc, is_child=True)

    def open(self, pid: int, identity: Identity) -> Process | None:
        proc = self.kernel.table.get(pid)
        if proc is None or not proc.alive:
            return None
        if not proc.identity.matches(identity):
            raise NotOurs(f"pid {pid} is another process now ({proc.kind})")
        return SimProcess(self, proc, is_child=False)

    def marked(self, match: Callable[[Mark], bool]) -> list[tuple[Process, Mark]]:
        found: list[tuple[Process, Mark]] = []
        for proc in self.kernel.living():
            mark = Mark.parse(proc.mark or "")
            if mark is not None and match(mark):
                found.append((SimProcess(self, proc, is_child=False), mark))
        return found

    def pids(self) -> Sequence[int]:
        return list(self.kernel.table)

    def orphans(self) -> Sequence[int] | None:
        if not self.incarnation.is_subreaper:
            return None
        return [proc.pid for proc in self.kernel.living() if proc.parent is self.incarnation and proc.is_orphan]

    def open_marked(self, pid: int, mark: Mark) -> Process | None:
        proc = self.kernel.table.get(pid)
        is_it = proc is not None and proc.alive and proc.mark == str(mark)
        return SimProcess(self, proc, is_child=False) if proc is not None and is_it else None

    def mark_of(self, pid: int) -> Mark | None:
        proc = self.kernel.table.get(pid)
        return Mark.parse(proc.mark or "") if proc is not None and proc.alive else None

    def lock_holders(self, lock: Path, *, deleted: bool = False) -> list[Process]:
        if deleted:
            return []
        held = self.kernel.held(str(lock))
        procs = [proc for proc in self.kernel.living() if held is not None and held in proc.locks]
        return [SimProcess(self, proc, is_child=False) for proc in procs]

    def keeps_deleted(self, pid: int, files: Iterable[Path]) -> bool:
        return False

    def oom_kills(self) -> int | None:
        return None

    def lock(self, path: Path, note: str = "") -> Lock | None:
        self.effect("lock")
        taken = self.kernel.take(str(path), self.incarnation)
        return SimLock(self, path, *taken) if taken is not None else None

    def port_is_free(self, host: str, port: int) -> bool:
        return not any(port in proc.ports for proc in self.kernel.living())

    def free_port(self, host: str) -> int:
        while not self.port_is_free(host, port := self.kernel.rng.randrange(20_000, 30_000)):
            pass
        return port

    def port_holder(self, port: int, host: str | None = None) -> PortHolder | None:
        found = next((proc for proc in self.kernel.living() if port in proc.ports), None)
        return PortHolder(found.pid, found.kind) if found is not None else None

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        return {pid: Usage(0.0, 1_000_000) for pid in pids if pid in self.kernel.table}

    def age_s(self, identity: Identity) -> float:
        return self.kernel.now - identity.start_time

    def describe(self, pid: int) -> str | None:
        proc = self.kernel.table.get(pid)
        return repr(proc) if proc is not None else None

    def become_subreaper(self) -> bool:
        return self.incarnation.is_subreaper


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")
