"""One life of a daemon's process: from its spawn, or its adoption, until nothing of it is left."""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import Callable

from neo_daemons.definitions import Launch
from neo_daemons.records import DaemonRecord
from neo_daemons.status import Cause, EventName

from .meter import CpuMeter
from .past import Span
from .platform import ExitStatus, Process
from .probes import Target
from .slot import Slot

STOP_POLL_S = 0.002
STOPPED_S = 1.0
"""A process sees SIGSTOP when it is next scheduled, or leaves the kernel."""

OnExit = Callable[[ExitStatus], None]
OnLearned = Callable[[int, ExitStatus], None]
"""Called with the pid and how the process ended, where the kernel tells that only after the exit."""


class Run:
    """One life of a daemon's process. What it knows goes with it.

    Args:
        slot: the place that it fills.
        process: the main process, which lives.
        record: of this run, as it is on the disk.
        launch: how it was started; None for an adopted one that could not be started on this machine any more.
    """

    def __init__(
        self, slot: Slot, process: Process, record: DaemonRecord, launch: Launch | None, *, adopted: bool
    ) -> None:
        self.slot = slot
        self.process = process
        self.launch = launch
        self.adopted = adopted
        self.followed = False
        """The process was forked off by the command, which has ended."""
        self.was_ready = False
        self.cause = Cause.EXIT
        """Why the run ends, if it does."""
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        """Done when the main process has exited."""
        # An earlier supervisor counted for itself, and the log may have been rotated or emptied since.
        self.log_start = 0 if adopted and record.log_offset > slot.log.size else record.log_offset
        """Position in the log where the run begins."""
        self._begun_at = time.monotonic()
        self._age_before_s = slot.context.platform.age_s(process.identity) if adopted else 0.0
        self._oom_kills_before = slot.context.platform.oom_kills()
        self._meter = CpuMeter()
        self.target = self._make_target()
        """What the probes are aimed at."""
        slot.log.inode = record.log_inode
        slot.tree.begin()
        slot.slots.begun(slot.name, process)

    def _make_target(self) -> Target:
        target = make_target(self.slot, self.launch, self.log_start)
        target.stranger = self._stranger
        if self.adopted and self.age_s > self.slot.definition.start_grace_s:
            target.heard.update(self.slot.ports.numbers.values())
        return target

    def _stranger(self) -> str | None:
        slot = self.slot
        found = slot.ports.stranger(self.process.pid, lambda pid: slot.context.ownership.owns(pid, slot.name))
        return f"port {found[0]} is served by {found[1]}, not by {slot.name}" if found is not None else None

    def watch(self, on_exit: OnExit, on_learned: OnLearned) -> None:
        """Call `on_exit` once, when the main process has exited. Where it is not known then how, and becomes known
        in the seconds after, `on_learned` is called with that."""
        process, exited = self.process, self.exited

        def on_end(status: ExitStatus) -> None:
            self.slot.slots.ended(process)
            exited.set_result(status)
            on_exit(status)

        process.watch(on_end, functools.partial(on_learned, process.pid))

    def follow(self, process: Process) -> None:
        """Go on with a process that the main one forked off before it exited. It is to be watched anew."""
        self.process.close()
        self.process = process
        self.followed = True
        self.exited = asyncio.get_running_loop().create_future()
        self.slot.slots.begun(self.slot.name, process)

    def let_go(self) -> None:
        """Stop watching; the processes live on."""
        self.slot.slots.ended(self.process)
        self.process.close()

    async def end(self) -> None:
        """End the whole process tree, as the definition says; returns when everything is seen to be gone."""
        await self.slot.tree.end(self.process, self.exited, self.slot.definition.stop)
        self.let_go()

    async def signal(self, signum: int) -> bool:
        """Send a signal to the process group, as a fault that somebody asked for; False if it has no process. When
        this returns, the exit, or the stop, has been seen."""
        if self.has_exited:
            return False
        process, exited = self.process, self.exited
        cause = Cause.REPAIR if signum == signal.SIGCONT else Cause.FAULT
        self.slot.note(
            EventName.SIGNALLED, f"{signal.Signals(signum).name}, as requested by a client", process.pid, cause
        )
        sent = self.slot.tree.signal(process, signum)
        if sent and signum == signal.SIGKILL:
            self.cause = Cause.FAULT
            await asyncio.wait([exited])
        if sent and signum == signal.SIGSTOP:
            deadline = time.monotonic() + STOPPED_S
            while process.is_alive() and not process.is_stopped() and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel tells of no stop
                await asyncio.sleep(STOP_POLL_S)
        return sent

    @property
    def has_exited(self) -> bool:
        """The main process has exited; what it left may live."""
        return self.exited.done()

    @property
    def age_s(self) -> float:
        """Seconds since the spawn, by an earlier supervisor too. The wall clock, which may be set, has no say in it."""
        return self._age_before_s + time.monotonic() - self._begun_at

    def cpu_percent(self, used_s: float) -> float:
        """CPU usage in percent of one CPU, from the CPU time used so far."""
        return self._meter.percent(used_s, self.age_s)

    def how_it_ended(self, status: ExitStatus) -> str:
        """How a process that was not being ended has exited, with what caused it, for people."""
        if status.signal == "SIGKILL":
            kills, before = self.slot.context.platform.oom_kills(), self._oom_kills_before
            if kills is not None and before is not None and kills > before:
                return f"{status}; probably killed by the kernel's OOM killer"
        return str(status)

    @property
    def span(self) -> Span:
        """What it has written to the log so far."""
        return Span(self.process.pid, self.log_start, self.slot.log.end)


def make_target(slot: Slot, launch: Launch | None, log_start: int) -> Target:
    """What the probes of a daemon are aimed at, with its ports and environment as they are now."""
    definition, context = slot.definition, slot.context
    mark = context.ownership.mark(context.token, slot.name)
    env = slot.environment(launch.env if launch is not None else {}, mark)
    return Target(definition.host, slot.ports.numbers, env, definition.cwd, slot.log, log_start, {})
