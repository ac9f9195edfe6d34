"""One run of a daemon: from the spawn or adoption of its process until all of its processes are gone."""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import Callable

from neo_daemons.definitions import Launch
from neo_daemons.records import DaemonRecord
from neo_daemons.status import Cause, EventName

from .meter import Meter
from .past import Span
from .platform import ExitStatus, Process
from .probes import Target
from .slot import Slot

STOP_POLL_S = 0.002
STOPPED_S = 1.0
"""Maximum wait for SIGSTOP: a process stops when it is next scheduled, or leaves the kernel."""

EARLY_S = 5.0
"""Without a readiness probe, a run that ends sooner has not come up."""

OnExit = Callable[[ExitStatus], None]
OnLearned = Callable[[int, ExitStatus], None]
"""Called with the pid and the exit status if the kernel reports the status only after the exit."""


class Run:
    """One run of a daemon, with everything known about it.

    Args:
        slot: what the daemon keeps from run to run.
        process: the running main process.
        record: the record of this run, as on disk.
        launch: how it was started; None for an adopted run that could no longer be started on this machine.
    """

    def __init__(
        self, slot: Slot, process: Process, record: DaemonRecord, launch: Launch | None, *, adopted: bool
    ) -> None:
        self.slot = slot
        self.process = process
        self.launch = launch
        self.adopted = adopted
        self.followed = False
        """Whether the process was forked by the command, which has exited."""
        self.was_ready = False
        self.cause = Cause.EXIT
        """Why the run ends, when it does."""
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        """Done when the main process has exited."""
        # An earlier supervisor wrote the offset, and the log may have been rotated or emptied since.
        self.log_start = 0 if adopted and record.log_offset > slot.log.size else record.log_offset
        """Position in the log where the run begins."""
        self._let_go = False
        self._begun_at = time.monotonic()
        self._age_before_s = slot.context.platform.age_s(process.identity) if adopted else 0.0
        self._oom_kills_before = slot.context.platform.oom_kills()
        self.meter = Meter()
        self.target = self._make_target()
        """The target of the probes."""
        slot.log.inode = record.log_inode
        slot.context.keep_log(slot.name)
        slot.tree.begin()
        slot.context.census.know(process)

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
        """Call `on_exit` once, when the main process has exited. If its exit status becomes known only in the seconds
        after, call `on_learned` with it."""
        process, exited = self.process, self.exited

        def on_end(status: ExitStatus) -> None:
            self.slot.context.census.forget(process)
            # Until its turn comes, nobody waits for a measurement of what is gone.
            self.meter.take(None, age_s=self.age_s, now=time.monotonic())
            self.slot.context.turns.call(functools.partial(has_ended, status))

        def has_ended(status: ExitStatus) -> None:
            if self._let_go:
                return
            exited.set_result(status)
            on_exit(status)

        process.watch(on_end, functools.partial(on_learned, process.pid))

    def follow(self, process: Process) -> None:
        """Continue with a process that the main one forked before it exited. The caller must watch it again."""
        self.process.close()
        self.process = process
        self.followed = True
        self.exited = asyncio.get_running_loop().create_future()
        self.slot.context.census.know(process)

    def let_go(self) -> None:
        """Stop watching; the processes keep running."""
        self._let_go = True
        self.target.stranger = lambda: None  # without this circle, a run that is over needs no garbage collector
        self.slot.context.census.forget(self.process)
        self.process.close()

    async def end(self) -> bool:
        """Stop the whole process tree as the definition says. Returns True when all of it is gone, or False if some of
        it cannot be stopped."""
        gone = await self.slot.tree.end(self.process, self.exited, self.slot.definition.stop)
        self.let_go()
        return gone

    async def signal(self, signum: int) -> bool:
        """Send a signal to the process group, as a requested fault. Returns False if it has no process. When this
        returns, the exit or the stop has been observed."""
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
            while process.is_alive() and not process.is_stopped() and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel does not report stops
                await asyncio.sleep(STOP_POLL_S)
        return sent

    @property
    def has_exited(self) -> bool:
        """Whether the main process has exited; processes that it left may still run."""
        return self.exited.done()

    @property
    def came_up(self) -> bool:
        """Whether it became ready; without a readiness probe, by which every run is ready: whether it lasted."""
        return self.was_ready and (bool(self.slot.definition.ready) or self.age_s >= EARLY_S)

    def succeeded(self, status: ExitStatus) -> bool:
        """Whether it was to run once, and has done what it was to do."""
        return self.slot.definition.oneshot and status.code == 0

    @property
    def age_s(self) -> float:
        """Seconds since the spawn, also by an earlier supervisor. Changes of the wall clock do not affect it."""
        return self._age_before_s + time.monotonic() - self._begun_at

    def how_it_ended(self, status: ExitStatus) -> str:
        """Describe how a process exited by itself, with the likely cause."""
        if status.signal == "SIGKILL":
            kills, before = self.slot.context.platform.oom_kills(), self._oom_kills_before
            if kills is not None and before is not None and kills > before:
                return f"{status}; probably killed by the kernel's OOM killer"
        return str(status)

    @property
    def span(self) -> Span:
        """The part of the log that it has written so far."""
        return Span(self.process.pid, self.log_start, self.slot.log.end)


def make_target(slot: Slot, launch: Launch | None, log_start: int) -> Target:
    """Return the target for a daemon's probes, with its current ports and environment."""
    definition, context = slot.definition, slot.context
    mark = context.ownership.mark(context.token, slot.name)
    account = launch.account if launch is not None else None
    env = slot.environment(launch.env if launch is not None else {}, mark)
    return Target(definition.host, slot.ports.numbers, env, definition.cwd, slot.log, log_start, {}, account)
