"""The core's ways to the simulated machine: the platform with its processes and locks, and the prober."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from neo_daemons.definitions import AnyProbe
from neo_daemons.records import Identity
from neo_daemons.supervision.platform import ExitStatus, Lock, Mark, NotOurs, Process, SpawnSpec
from neo_daemons.supervision.platform.contract import PortHolder, Usage
from neo_daemons.supervision.probes import Answer, Result, Target, verdict

from .daemons import TIMEOUT_S
from .incarnations import Incarnation, running
from .kernel import Description, Kernel, Proc


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
    reason: str | None = None

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

    def newest_pid(self) -> int | None:
        return self.kernel.newest

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

    def listens(self, pid: int, port: int, host: str) -> bool:
        return False

    def port_holder(self, port: int, host: str | None = None) -> PortHolder | None:
        found = next((proc for proc in self.kernel.living() if port in proc.ports), None)
        return PortHolder(found.pid, found.kind) if found is not None else None

    def file_changes(self) -> None:
        return None

    def usage(self, pids: Iterable[int]) -> Mapping[int, Usage]:
        return {pid: Usage(0.0, 1_000_000) for pid in pids if pid in self.kernel.table}

    def age_s(self, identity: Identity) -> float:
        return self.kernel.now - identity.start_time

    def describe(self, pid: int) -> str | None:
        proc = self.kernel.table.get(pid)
        return repr(proc) if proc is not None else None

    def become_subreaper(self) -> bool:
        return self.incarnation.is_subreaper

    def reap_orphans(self) -> None:
        """The simulated kernel keeps no zombies."""


class SimFileLock:
    """Replaces filelock's lock by one of the simulated kernel."""

    def __init__(self, kernel: Kernel, path: Any) -> None:
        self._kernel = kernel
        self._path = str(path)
        self._held: Any = None

    def acquire(self, timeout: float = 0, poll_interval: float = 0) -> None:
        owner = running.get()
        assert owner is not None
        taken = self._kernel.take(self._path, owner)
        if taken is None:
            raise filelock.Timeout(self._path)
        self._held = (taken[1], owner)
        Path(self._path).touch()

    def release(self) -> None:
        if self._held is not None:
            self._kernel.drop(*self._held)
            self._held = None


class SimProber:
    """A prober that asks the simulated processes."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def check(self, probe: AnyProbe, target: Target) -> Result:
        port = target.port(None)
        holder = next((proc for proc in self._kernel.living() if port in proc.ports), None)
        if holder is None:
            return verdict(False, "connection refused")
        if (stranger := target.stranger()) is not None:
            return Result(Answer.FAILED, stranger, stranger=True)
        if holder.stopped or holder.hung:
            await asyncio.sleep(TIMEOUT_S)
            return verdict(False, "no answer")
        await asyncio.sleep(0.001)
        holder.answered_at = self._kernel.now
        return verdict(holder.alive, "answered")

    async def close(self) -> None:
        pass
