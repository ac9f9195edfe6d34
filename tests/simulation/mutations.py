"""Mutations of the core, each of which some seed must detect."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, Identity
from neo_daemons.status import Cause
from neo_daemons.supervision import (
    census,
    claim,
    daemon,
    fleet,
    intentions,
    jobs,
    journal,
    machine,
    ownership,
    pidfile,
    situation,
    tree,
    watching,
)
from neo_daemons.supervision.census import Marks
from neo_daemons.supervision.machine import Event, State
from neo_daemons.supervision.platform import NotOurs, Process
from neo_daemons.supervision.policy import Verdict
from neo_daemons.supervision.run import Run
from neo_daemons.supervision.slot import Slot
from neo_daemons.supervision.tree import Tree
from neo_daemons.supervision.watcher import Watcher

from .kernel import Proc
from .platform import SimFileLock, SimPlatform, SimProcess

Mutation = Callable[[], contextlib.AbstractContextManager[Any]]


def no_supervisor_lock() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(SimFileLock, "acquire", lambda *_, **__: None)


@contextlib.contextmanager
def no_identity_check() -> Iterator[None]:
    """Trust a recorded pid."""

    def believe(self: Any, record: DaemonRecord) -> tuple[Process | None, str | None]:
        platform: SimPlatform = self._platform
        proc = platform.kernel.table.get(record.pid or 0)
        found = SimProcess(platform, proc, is_child=False) if proc is not None and proc.alive else None
        return found, None

    with mock.patch.object(ownership.Ownership, "find_living", believe):
        yield


def intent_after_the_spawn() -> contextlib.AbstractContextManager[Any]:
    def intend(self: pidfile.PidFile, record: DaemonRecord) -> None:
        self.record = record

    return mock.patch.object(pidfile.PidFile, "intend", intend)


def finalise_before_the_exit() -> contextlib.AbstractContextManager[Any]:
    async def end(self: Run) -> bool:
        self.process.signal(signal.SIGTERM)
        self.let_go()
        return True

    return mock.patch.object(Run, "end", end)


def no_grace() -> contextlib.AbstractContextManager[Any]:
    async def gone(self: Tree, exited: Any, grace_s: float) -> bool:
        return bool(exited.done())

    return mock.patch.object(Tree, "_gone", gone)


def no_sweep() -> contextlib.AbstractContextManager[Any]:
    async def sweep(self: Tree, grace_s: float = 0.0, leader: Any = None) -> bool:
        return True

    return mock.patch.object(Tree, "sweep", sweep)


@contextlib.contextmanager
def written_in_place() -> Iterator[None]:
    """Write without a temporary file that is renamed."""

    def write(path: Path, value: Any, **options: Any) -> None:
        with path.open("wb") as file:
            file.write(msgspec.json.encode(value))

    with (
        mock.patch.object(pidfile, "write_struct", write),
        mock.patch.object(intentions, "write_struct", write),
        mock.patch.object(claim, "write_struct", write),
    ):
        yield


def holds_in_memory() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(intentions.Holds, "save", lambda self: None)


def one_failure_is_death() -> contextlib.AbstractContextManager[Any]:
    check = watching._check

    async def impatient(slot: Slot, target: Any, probes: Any, watcher: Watcher) -> Any:
        result, probe = await check(slot, target, probes, watcher)
        if not result.ok and slot.state is State.READY:
            watcher.condemn(Cause.PROBE, result.detail)
        return result, probe

    return mock.patch.object(watching, "_check", impatient)


def no_limit() -> contextlib.AbstractContextManager[Any]:
    def decide(*_: Any, cause: Cause, **__: Any) -> Verdict:
        return Verdict(Event.KEEP, None, "") if cause is Cause.OPERATOR else Verdict(Event.RETRY, 0.01, "")

    return mock.patch.object(daemon, "decide", decide)


def nothing_is_adopted() -> contextlib.AbstractContextManager[Any]:
    async def adopt(slot: Slot, launch: Any) -> None:
        return None

    return mock.patch.object(daemon, "adopt", adopt)


def survivors_are_replaced() -> contextlib.AbstractContextManager[Any]:
    async def adopt(slot: Slot, launch: Any) -> None:
        await slot.tree.sweep()
        slot.pidfile.clear()

    return mock.patch.object(daemon, "adopt", adopt)


def exits_go_unnoticed() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(SimProcess, "watch", lambda *_: None)


def records_outlive_the_stop() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(pidfile.PidFile, "clear", lambda self: None)


def no_data_lock() -> contextlib.AbstractContextManager[Any]:
    def lock(self: Slot) -> Any:
        return self.context.platform.lock(Path(str(self.definition.data_dir)) / secrets.token_hex(4))

    return mock.patch.object(Slot, "lock_data", lock)


@contextlib.contextmanager
def no_sync() -> Iterator[None]:
    """Write without syncing to disk."""

    def write(path: Path, value: Any, *, sync: bool = False) -> None:
        write_struct(path, value)

    with mock.patch.object(intentions, "write_struct", write):
        yield


def a_held_lock_proves_the_record() -> contextlib.AbstractContextManager[Any]:
    find_living = ownership.Ownership.find_living

    def believe(self: Any, record: DaemonRecord) -> tuple[Process | None, str | None]:
        platform: SimPlatform = self._platform
        found = find_living(self, record)
        proc = platform.kernel.table.get(record.pid or 0)
        if found[1] is None or proc is None or record.identity is None or not proc.identity.matches(record.identity):
            return found
        if platform.kernel.held(str(self.state_dir.daemon_lock(record.name))) is None:
            return found
        return SimProcess(platform, proc, is_child=False), None

    return mock.patch.object(ownership.Ownership, "find_living", believe)


def leases_inhibit_nothing() -> contextlib.AbstractContextManager[Any]:
    return mock.patch.object(Watcher, "may_recycle", lambda self: True)


def age_by_the_wall_clock() -> contextlib.AbstractContextManager[Any]:
    begin = Run.__init__

    def mutated(self: Any, slot: Slot, process: Process, record: DaemonRecord, *rest: Any, adopted: bool) -> None:
        begin(self, slot, process, record, *rest, adopted=adopted)
        self._age_before_s = max(time.time() - record.spawned_at, 0.0) if adopted else 0.0

    return mock.patch.object(Run, "__init__", mutated)


def identity_by_the_wall_clock() -> contextlib.AbstractContextManager[Any]:
    """Tell processes apart by when they started on the wall clock, as it shows that now."""

    def opened(self: SimPlatform, pid: int, identity: Identity) -> Process | None:
        proc = self.kernel.table.get(pid)
        if proc is None or not proc.alive:
            return None
        if proc.identity.boot_id != identity.boot_id or abs(_shown_start(proc) - identity.start_time) > 1.0:
            raise NotOurs(f"pid {pid} started at another time")
        return SimProcess(self, proc, is_child=False)

    def spawned(self: SimProcess, platform: SimPlatform, proc: Proc, *, is_child: bool) -> None:
        begin(self, platform, proc, is_child=is_child)
        self.identity = msgspec.structs.replace(proc.identity, start_time=_shown_start(proc), inode=None)

    begin = SimProcess.__init__
    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(SimProcess, "__init__", spawned))
    stack.enter_context(mock.patch.object(SimPlatform, "open", opened))
    return stack


def _shown_start(proc: Proc) -> float:
    return time.time() - time.monotonic() + proc.identity.start_time


@contextlib.contextmanager
def deadlines_by_the_wall_clock() -> Iterator[None]:
    """Look at the wall clock for whether a grace period or another deadline is over."""

    class ByTheWall:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        @staticmethod
        def get_running_loop() -> Any:
            return mock.Mock(wraps=asyncio.get_running_loop(), time=time.time)

    with contextlib.ExitStack() as stack:
        for module in (tree, situation, watching, fleet):
            stack.enter_context(mock.patch.object(module, "asyncio", ByTheWall()))
        yield


def timers_by_the_wall_clock() -> contextlib.AbstractContextManager[Any]:
    """Start a timer anew until the wall clock shows that it is due."""
    start = jobs.Timer.start

    def mutated(self: jobs.Timer, delay_s: float, callback: Callable[[], None]) -> None:
        due_at = time.time() + delay_s

        def look() -> None:
            left_s = due_at - time.time()
            start(self, min(left_s, 0.5), look) if left_s > 0 else callback()

        start(self, min(delay_s, 0.5), look)

    return mock.patch.object(jobs.Timer, "start", mutated)


def an_exit_is_ignored(state: State) -> Mutation:
    """Ignore in the table that a process can exit in this state."""

    def mutation() -> contextlib.AbstractContextManager[Any]:
        row = {**machine.TABLE[state], Event.EXITED: machine.IGNORE}
        return mock.patch.object(machine, "TABLE", {**machine.TABLE, state: row})

    mutation.__name__ = f"an_exit_is_ignored_when_{state}"
    return mutation


def ended_daemons_keep_their_state() -> contextlib.AbstractContextManager[Any]:
    """Ignore the end of a run that has exited."""
    row = {**machine.TABLE[State.ENDING], Event.RETRY: machine.IGNORE}
    return mock.patch.object(machine, "TABLE", {**machine.TABLE, State.ENDING: row})


def a_stop_of_what_has_ended_is_forgotten() -> contextlib.AbstractContextManager[Any]:
    row = {**machine.TABLE[State.ENDING], Event.STOP: machine.IGNORE}
    return mock.patch.object(machine, "TABLE", {**machine.TABLE, State.ENDING: row})


def the_exit_of_a_run_leaks_into_the_next() -> contextlib.AbstractContextManager[Any]:
    """A run begins with what the one before it has left: its exit."""
    begin = Run.__init__

    def mutated(self: Any, slot: Slot, *rest: Any, **options: Any) -> None:
        begin(self, slot, *rest, **options)
        self.exited = vars(slot).setdefault("exited", self.exited)
        if self.exited.done():
            # `watch` sets it once more.
            self.watch = lambda on_exit, on_learned: self.process.watch(on_exit)

    return mock.patch.object(Run, "__init__", mutated)


@contextlib.contextmanager
def late_askers_share_a_look() -> Iterator[None]:
    """Answer with a look that had begun before the question. Listing the processes again would mostly hide that."""

    async def mutated(self: Any) -> None:
        asking: list[Any] = []
        try:
            while self._asking:
                try:
                    found = await self._look()
                finally:
                    asking, self._asking = self._asking, []
                for answer in asking:
                    if not answer.done():
                        answer.set_result(found)
        finally:
            self._looking = None
            for answer in asking:
                answer.cancel()

    with mock.patch.object(census._SharedLook, "_answer", mutated), mock.patch.object(census, "ROUNDS", 1):
        yield


def looks_are_shared_for_a_second() -> contextlib.AbstractContextManager[Any]:
    """Answer with the latest look as long as it is less than a second old."""
    next_look = census._SharedLook.next

    async def mutated(self: Any) -> Marks:
        at, found = vars(self).get("latest", (-1.0, {}))
        if time.monotonic() - at > 1.0:
            found = await next_look(self)
            self.latest = (time.monotonic(), found)
        return {**found}

    return mock.patch.object(census._SharedLook, "next", mutated)


def a_look_forgets_one() -> contextlib.AbstractContextManager[Any]:
    """Leave out one of the processes that a look has found."""
    marked = census.Census._marked

    def mutated(self: Any, pids: Any) -> Any:
        return list(marked(self, pids))[1:]

    return mock.patch.object(census.Census, "_marked", mutated)


def main_processes_stay_known() -> contextlib.AbstractContextManager[Any]:
    """Go on passing over the pid of a main process that has exited."""
    return mock.patch.object(census.Census, "forget", lambda *_: None)


def adopted_daemons_leave_only_orphans_of_ours() -> contextlib.AbstractContextManager[Any]:
    """Look for leftovers among our own orphans from the beginning."""
    begin = Tree.__init__

    def mutated(self: Any, *args: Any) -> None:
        begin(self, *args)
        self._only_ours = True

    return mock.patch.object(Tree, "__init__", mutated)


def a_cut_line_swallows_the_next() -> contextlib.AbstractContextManager[Any]:
    """Go on in the line of the journal that a kill or a full disk has cut off."""
    return mock.patch.object(journal, "_ends_within_a_line", lambda path: False)


MUTATIONS: tuple[Mutation, ...] = (
    no_supervisor_lock,
    no_identity_check,
    intent_after_the_spawn,
    finalise_before_the_exit,
    no_grace,
    no_sweep,
    written_in_place,
    holds_in_memory,
    one_failure_is_death,
    no_limit,
    nothing_is_adopted,
    survivors_are_replaced,
    exits_go_unnoticed,
    records_outlive_the_stop,
    no_data_lock,
    no_sync,
    a_held_lock_proves_the_record,
    leases_inhibit_nothing,
    age_by_the_wall_clock,
    identity_by_the_wall_clock,
    deadlines_by_the_wall_clock,
    timers_by_the_wall_clock,
    *(an_exit_is_ignored(state) for state in sorted(machine.ALIVE)),
    ended_daemons_keep_their_state,
    a_stop_of_what_has_ended_is_forgotten,
    the_exit_of_a_run_leaks_into_the_next,
    a_cut_line_swallows_the_next,
    late_askers_share_a_look,
    looks_are_shared_for_a_second,
    a_look_forgets_one,
    main_processes_stay_known,
    adopted_daemons_leave_only_orphans_of_ours,
)
