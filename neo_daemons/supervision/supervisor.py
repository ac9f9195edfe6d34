"""The set of daemons of one state directory: order, bounded parallelism, adoption, reload, shutdown."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.similar import among
from neo_daemons.state_dir import StateDir, StateDirLost
from neo_daemons.status import (
    Cause,
    Change,
    DaemonStatus,
    EventName,
    Explanation,
    JournalEntry,
    Status,
    SupervisorStatus,
)
from neo_daemons.version import VERSION

from . import describe, faults
from .broadcast import Changes
from .census import Census
from .context import Context
from .daemon import SupervisedDaemon
from .demand import Demand
from .fleet import Fleet, is_down, stop_in_order
from .instances import hosting, survivors_of
from .intentions import Holds
from .journal import Journal
from .leftovers import Leftovers, Survivors, find_survivors, recorded
from .log_keeper import LogKeeper
from .machine import Event, Refused, State
from .measuring import Measurements
from .need import Needs
from .ownership import Ownership
from .platform import Platform, current_platform
from .probes import Prober
from .reload import carry_out, plan
from .slot import Slot
from .turns import Turns
from .upkeep import Upkeep

PARALLEL = max(4, 2 * (os.cpu_count() or 1))
"""Maximum number of daemons that start at the same time."""
EXPLAINED_EVENTS = 15


class UnknownDaemon(KeyError):
    """No daemon of that name is configured; ``str()`` lists the configured ones."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.message = f"unknown daemon {name!r}; configured daemons: {among(name, known)}"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class Supervisor:
    """Supervises the daemons of one state directory, from `start` to `stop`.

    Args:
        definitions: the daemons.
        state_dir: the state directory.
        resolve: determines how a definition is run on this machine.
        values: values that references can name, besides the daemons' own.
        env: the environment that daemons inherit.
    """

    def __init__(
        self,
        definitions: Iterable[Definition],
        *,
        state_dir: StateDir,
        resolve: Callable[[Definition], Launch | CannotRun],
        values: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        platform: Platform | None = None,
        prober: Prober | None = None,
        parallel: int = PARALLEL,
        rng: random.Random | None = None,
        config: str | None = None,
    ) -> None:
        self.state_dir = state_dir
        self.platform = platform or current_platform()
        self.config = config
        self.url: str | None = None
        """URL of the control API over TCP, if it is served."""
        self.ends_unused = False
        """Whether it ends with the last lease."""
        self.stopping = False
        self.remark: str | None = None
        """A problem of whoever uses this supervisor, for its status."""
        self.on_remade: Callable[[], None] = lambda: None
        """Called after a deleted state directory was recreated."""
        self.upkeep = Upkeep(
            state_dir, self.platform, token=(token := secrets.token_hex(16)), config=config, started_at=time.time()
        )
        self.measurements = Measurements(self.platform, lambda: self.daemons.values())
        self._definitions = tuple(definitions)
        self.gives_up = False
        """See `Needs`."""
        self.demand: Demand  # from `launch` on
        self.needs: Needs
        self._fleet: Fleet | None = None
        self._leftovers = Leftovers()
        self._reloading = asyncio.Lock()
        self._log_keeper = LogKeeper(self.platform, lambda: self.fleet.slots)
        self._keeping_logs: asyncio.Task[None] | None = None

        def make_context() -> Context:
            return Context(
                platform=self.platform,
                ownership=Ownership(self.platform, state_dir),
                census=Census(self.platform, turns := Turns()),
                turns=turns,
                token=token,
                journal=Journal(state_dir.journal),
                prober=prober or Prober(self.platform),
                holds=Holds(state_dir, may_write=lambda: not self.upkeep.is_lost),
                resolve=hosting(resolve, state_dir),
                values={"state_dir": str(state_dir.path), **(values or {})},
                env=dict(os.environ if env is None else env),
                gate=asyncio.Semaphore(parallel),
                rng=rng or random.Random(),
                keep_claim=self.keep_claim,
                keep_log=self._log_keeper.attend,
                is_inhibited=lambda name: self.demand.is_inhibited(name),
                start_below=lambda name: self.demand.start_below(name),
                is_stopping=lambda: self.stopping,
            )

        self._make_context = make_context

    # Life

    async def start(self, socket: str = "") -> None:
        """Take the state directory and start (or adopt) every enabled daemon. Returns when all starts are in
        progress, not when they are done.

        Raises:
            AlreadyRunning: another supervisor holds it. Nothing was written.
            StateDirError: the directory cannot be used.
        """
        self.upkeep.claim()
        self.upkeep.announce(socket)
        self.launch()

    def launch(self, *, starts_all: bool = True) -> None:
        """Begin to supervise. See `start`. Without `starts_all`, only survivors run until somebody starts others."""
        context = self._make_context()
        self._fleet = fleet = Fleet(context, self._leftovers)
        journal = context.journal
        journal.add(EventName.SUPERVISOR_STARTED, pid=os.getpid(), detail=f"version {VERSION}")
        self.upkeep.note_provenance(journal)
        fault = context.holds.load(definition.name for definition in self._definitions)
        if fault is not None:
            journal.add(EventName.RECORD_DAMAGED, detail=fault)
        survivors = find_survivors(context)
        self._definitions += survivors_of(self._definitions, survivors, recorded(context))
        for definition in self._definitions:
            fleet.add(definition)
        keeping = asyncio.get_running_loop().create_task(self._log_keeper.keep())
        self._keeping_logs = faults.reported(keeping, "keeping the logs")
        leftovers = list(self._find_leftovers(survivors))
        self._leftovers.begin(context, leftovers, survivors)
        self.demand = Demand(fleet)
        self.needs = Needs(fleet, self.demand, self.status_of, self.daemon, gives_up=self.gives_up)
        ended = {slot.name for slot in leftovers}
        for daemon in self.daemons.values():
            survives = daemon.slot.pidfile.record is not None or (daemon.name in survivors and daemon.name not in ended)
            fleet.begin(daemon, resume=survives, waits=not starts_all)
        self.needs.instances.begin()

    def _find_leftovers(self, survivors: Survivors) -> Iterator[Slot]:
        """Find daemons that an earlier supervisor left and that are no longer configured to run."""
        wanted = {definition.name for definition in self._definitions if definition.enabled and not definition.external}
        for name in sorted((recorded(self.context) | set(survivors)) - wanted):
            daemon = self.daemons.get(name)
            yield daemon.slot if daemon is not None else self.fleet.make_slot(Definition(name=name))

    @property
    def fleet(self) -> Fleet:
        """The daemons; available after `launch`."""
        assert self._fleet is not None, "the supervisor has not been started"
        return self._fleet

    @property
    def daemons(self) -> dict[str, SupervisedDaemon]:
        """The daemons by name, in the order of their definitions."""
        return self.fleet.daemons

    @property
    def context(self) -> Context:
        """What the daemons share."""
        return self.fleet.context

    @property
    def changed(self) -> Changes:
        """Notified when anything changes about any daemon."""
        return self.context.changed

    @property
    def journal(self) -> Journal:
        """The journal of events."""
        return self.context.journal

    async def stop(self, *, detach: bool = False) -> None:
        """Stop every daemon, dependants first. With `detach` the daemons are left running, for the next supervisor to
        adopt. The state directory stays locked until `release`."""
        if self._fleet is None:
            return
        self.stopping = True
        async with self._reloading:  # daemons that a reload is starting must be stopped too
            self.demand.close()
            self.needs.instances.close()
            await self._stop(detach=detach)

    async def _stop(self, *, detach: bool) -> None:
        self.journal.add(EventName.SUPERVISOR_DETACHING if detach else EventName.SUPERVISOR_STOPPING, pid=os.getpid())
        if detach:
            await asyncio.gather(*(daemon.detach() for daemon in self.daemons.values()))
        else:
            await stop_in_order(list(self.daemons.values()))
            for daemon in self.daemons.values():
                await daemon.detach(finish=is_down(daemon))
        await self._leftovers.finished()
        if self._keeping_logs is not None:
            self._keeping_logs.cancel()
            await asyncio.gather(self._keeping_logs, return_exceptions=True)
        self.context.holds.close()
        await self.context.prober.close()
        self.journal.add(EventName.SUPERVISOR_STOPPED, pid=os.getpid())
        self.journal.close()

    def hurry(self) -> None:
        """Skip all grace periods: send SIGKILL now."""
        for daemon in self.daemons.values():
            daemon.slot.tree.hurry()
        self._leftovers.hurry()

    def release(self) -> None:
        """Release the state directory."""
        self.upkeep.release()

    # Being found

    def keep_claim(self) -> None:
        """Recreate whatever is missing of the directory, the lock and the record of this supervisor.

        Raises:
            StateDirLost: it no longer owns the state directory and should stop.
        """
        try:
            self.upkeep.keep(self.journal, self._restore)
        except StateDirLost:
            if self._keeping_logs is not None:
                self._keeping_logs.cancel()
            raise

    def _restore(self) -> None:
        """Restore the contents of a deleted state directory."""
        self.context.ownership.look_again()
        for daemon in self.daemons.values():
            daemon.restore_record()
        self.context.holds.restore()
        self.on_remade()

    def keep_records(self) -> None:
        """Rewrite deleted records of running daemons.

        Raises:
            OSError: their directory cannot be checked at present.
        """
        for slot in self.upkeep.missing_records(self.fleet.slots):
            self.daemons[slot.name].restore_record()

    # Orders

    def daemon(self, name: str) -> SupervisedDaemon:
        """Return the daemon of that name.

        Raises:
            UnknownDaemon: it is not configured.
        """
        try:
            return self.daemons[name]
        except KeyError:
            raise UnknownDaemon(name, self.daemons) from None

    def order(self, name: str, event: Event) -> SupervisedDaemon:
        """Carry out an operator's order, and return the daemon, whose `state` shows the outcome. Starting a daemon
        also starts those that it requires.

        Raises:
            UnknownDaemon: it is not configured.
            Refused: the order is not possible; the message says why.
        """
        daemon = self.daemon(name)
        self._refuse_if_stopping()
        self.needs.instances.check_order(daemon, event)
        if name in self.fleet.changing:
            return self._order_later(daemon, event)
        daemon.order(event, f"{event} requested by a user", Cause.OPERATOR)
        if event in (Event.START, Event.RESTART) and not daemon.definition.oneshot:  # see `wait_to_start`
            for required in daemon.definition.requires:
                other = self.daemons.get(required)
                if other is None or other.held or required in self.fleet.changing:
                    continue
                if other.state in (State.STOPPED, State.STOPPING):
                    self.order(required, Event.START)
        return daemon

    def _order_later(self, daemon: SupervisedDaemon, event: Event) -> SupervisedDaemon:
        if event not in (Event.START, Event.RESTART):
            raise Refused("a reload is changing it; try again when the reload is done")
        self.fleet.changing[daemon.name] = True
        return daemon

    def _refuse_if_stopping(self) -> None:
        if self.stopping:
            raise Refused("the supervisor is stopping")

    # Status

    def status(self) -> Status:
        """Return the current status of the supervisor and its daemons. What they use was measured within the last
        `meter.OVERDUE_S` seconds, if not now."""
        self.measurements.at_once()
        return Status(supervisor=self.own_status(), daemons=tuple(map(self.status_of, self.daemons.values())))

    def own_status(self) -> SupervisorStatus:
        """Return the current status of the supervisor itself."""
        holds, journal = self.context.holds, self.journal
        return SupervisorStatus(
            platform=self.context.platform.name,
            platform_reason=self.context.platform.reason,
            pid=os.getpid(),
            version=VERSION,
            state_dir=str(self.state_dir.path),
            started_at=self.upkeep.started_at,
            ends_unused=self.ends_unused,
            config=self.config,
            url=self.url,
            stopping=self.stopping,
            warning=self.upkeep.warning or holds.warning or self._log_keeper.warning or journal.fault or self.remark,
        )

    def status_of(self, daemon: SupervisedDaemon) -> DaemonStatus:
        """Return the current status of one daemon, without measuring anything: with what it used as last measured."""
        return describe.status_of(daemon, self.daemons, self.demand, self.fleet.changing)

    def is_settled(self, daemon: SupervisedDaemon) -> bool:
        """Whether a daemon has an outcome; see `DaemonStatus.settled`."""
        return describe.is_settled(daemon, self.daemons, self.fleet.changing)

    def explain(self, name: str) -> Explanation:
        """Explain the current state of a daemon.

        Raises:
            UnknownDaemon: it is not configured.
        """
        daemon = self.daemon(name)
        self.measurements.at_once(daemon)
        return describe.explain(daemon, self.status_of(daemon), self.events(EXPLAINED_EVENTS, name))

    def events(self, count: int, name: str | None = None) -> list[JournalEntry]:
        """Return the latest entries of the journal."""
        return self.journal.latest(count, name)

    # Reload

    async def plan(self, definitions: Iterable[Definition]) -> list[Change]:
        """Return what `reload` with these definitions would do."""
        return await plan(self.fleet, self.needs.instances.kept_by(definitions))

    async def reload(self, definitions: Iterable[Definition], *, config: str | None = None) -> list[Change]:
        """Bring the daemons in line with new definitions, touching only what changed. Returns what was done; new
        processes may still be starting."""
        self._refuse_if_stopping()  # a stop holds the lock until all daemons have stopped
        async with self._reloading:
            self._refuse_if_stopping()
            self.config = config or self.config
            try:
                wanted = self.needs.instances.kept_by(definitions)
                return await carry_out(self.fleet, {one.name: one for one in wanted})
            finally:
                self.demand.look_again()
