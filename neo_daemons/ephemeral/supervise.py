"""The supervisor of a session: an orchestrator that starts daemons on demand and runs as long as it has leases."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from neo_daemons.control import api
from neo_daemons.definitions import Definition
from neo_daemons.locks import is_held
from neo_daemons.orchestrator import AgentOrchestrator
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.status import Change, EventName
from neo_daemons.supervision import faults
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.describe import PATIENT_FAILURES, relevant_lines
from neo_daemons.supervision.machine import SETTLING, Event, Refused, State
from neo_daemons.supervision.platform import Lock, NotOurs, Process, Unverifiable
from neo_daemons.urls import redacted

from . import session as sessions
from .clear import Cleared, clear
from .life import OWNER, Life
from .places import lock_of
from .session import SessionRecord
from .standby import await_order

SHOWN_LINES = 30
"""The number of log lines shown for a failed daemon."""
RETRY_S = 0.05
SPAWN_S = 0.2
"""How long the control API waits for daemons to be spawned that are wanted at once. Those that need a provision take
longer."""
CLEARED_S = 2.0
"""How long a test waits until what earlier sessions left has been cleared away."""
DEPENDANT_TRIES = 3
"""How often a run tries a daemon that depends on others: it may have failed because of them."""


class SessionOrchestrator(AgentOrchestrator):
    """Supervises the daemons of a session, from its file to the removal of its directory."""

    registers = False

    def __init__(self, state_dir: StateDir, record: SessionRecord) -> None:
        super().__init__(sessions.configuration(record, state_dir), on_demand=True)
        self.session = self
        self._record = record
        self._original = {definition.name: definition for definition in record.definitions}
        self._changed = {definition.name: definition for definition in record.changed}
        """Definitions that users of the session have set."""
        self._stated = dict(self._changed)
        """The same, also those of daemons that are gone."""
        self._inherited: set[str] = set()
        """The names of those that an earlier run set: they apply until this run requests the daemon without them."""
        self._changing = asyncio.Lock()
        self._failed: dict[str, api.Needed] = {}
        """Daemons that failed and have not been ready since."""
        self._tries: dict[str, int] = {}
        """How often each of these failed to start."""
        self._owner = self._open_owner()
        self._life: Life | None = None
        self._ending: asyncio.Task[None] | None = None
        self._lock: Lock | None = None

    def _open_owner(self) -> Process | None:
        try:
            return self.supervisor.platform.open(self._record.owner.pid, self._record.owner.identity)
        except (NotOurs, Unverifiable):
            return None

    async def supervise(self) -> None:
        """Supervise the session until the last lease has ended, then remove it.

        Raises:
            AlreadyRunning, StateDirError: as `AgentOrchestrator.start`.
        """
        await self.run(started=self._begin)
        # If a signal ends it while it has users, they remove what it left, or another supervisor takes over.
        if self._lock is not None or (self._take_lock() and self._lock is not None):
            sessions.remove(self.configuration.state, self._lock, self.supervisor.platform)

    async def _spawn_first(self) -> None:
        """Start the daemons that the owner already wants, before the import of the server delays that."""
        wanted = sessions.take_wanted(self.configuration.state) if self._owner is not None else ()
        deadline = asyncio.get_running_loop().time() + SPAWN_S
        begun = [daemon for name, daemon in self.supervisor.daemons.items() if name in wanted]
        for daemon in begun:
            self._start(daemon)
        for daemon in begun:
            await daemon.wait_for(_is_spawned_or_waits, max(deadline - asyncio.get_running_loop().time(), 0.0))
        # One turn of the loop begins it.
        clearing = asyncio.create_task(self._clear_leftovers())
        self._clearing = faults.reported(clearing, "clearing away what earlier sessions left")
        await asyncio.sleep(0)

    def _begin(self) -> None:
        owner = self._owner
        self._life = Life(owner_lives=owner is not None, keep_s=self._record.keep_s, end=self._end)
        if owner is not None:
            owner.watch(lambda status: self.lease_dropped(OWNER))

    async def _clear_leftovers(self) -> None:
        """Remove what sessions left behind whose supervisor and users died at once."""

        def tell(cleared: Cleared) -> None:
            for orphan in cleared.ended:
                detail = f"{orphan.name}, pid {orphan.pid}, left by an earlier session in {orphan.state_dir}"
                self.supervisor.journal.add(EventName.REAPED, pid=orphan.pid, detail=detail)
            if not cleared.ended:
                self.supervisor.journal.add(EventName.CLEARED, detail=str(cleared.state_dir.path))

        own = self.configuration.state.path
        for cleared in await asyncio.to_thread(lambda: list(clear(own.parent, skip=own.name))):
            tell(cleared)

    def _on_remade(self) -> None:
        sessions.write(self.configuration.state, self._record)

    def _end(self) -> None:
        self._ending = faults.reported(asyncio.create_task(self._end_unless_used()), "ending the session")

    async def _end_unless_used(self) -> None:
        """End this session once no other process is about to use or remove it."""
        while self._life is not None and not self._life.leases:
            if self._take_lock():
                self.ask_to_stop()
                return
            await asyncio.sleep(RETRY_S)

    def _take_lock(self) -> bool:
        """Return whether no other process uses this session. If that is unknown because the lock's directory is gone or
        no descriptor is left, no other process can use it."""
        try:
            self._lock = self.supervisor.platform.lock(lock_of(self.configuration.state))
        except OSError:
            return True
        return self._lock is not None

    # The methods of `control.protocols.OnDemandSession`

    def lease_taken(self, lease: int, *, owner: bool) -> None:
        if self._stop_asked.is_set() or self._life is None:
            raise Refused("the session is ending")
        self._life.taken(lease, owner=owner)
        if owner and self._owner is not None:
            self._owner.close()
            self._owner = None

    def lease_dropped(self, lease: int) -> None:
        if self._life is not None:
            self._life.dropped(lease)

    def ordered(self, name: str) -> None:
        self._forget_failure(name)

    def _forget_failure(self, name: str) -> None:
        self._failed.pop(name, None)
        self._tries.pop(name, None)

    async def need(self, name: str, wait_s: float) -> api.Needed:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        begun: SupervisedDaemon | None = None
        await self._renounce(name)
        self._try_again(self.supervisor.daemon(name))
        while True:
            daemon = self.supervisor.daemon(name)
            if name not in self.supervisor.fleet.changing:
                if name in self._failed and not daemon.ready:
                    return self._failed[name]
                if daemon is not begun:
                    self._start(daemon)
                    begun = daemon
                why = None if daemon.ready else self._why_not(daemon)
                if why is not None:
                    return self._fail(daemon, why)
            left_s = deadline - loop.time()
            if daemon.ready or left_s <= 0:
                # The run may be over soon, and its summary mentions what was reaped.
                await asyncio.wait({self._clearing}, timeout=max(min(left_s, CLEARED_S), 0.0))
                return api.Needed(daemon=self.supervisor.status_of(daemon))
            await daemon.situation.change(left_s)

    async def _renounce(self, name: str) -> None:
        """Discard the changes of an earlier run to a daemon and those that it waits for: if this run wanted them, it
        would have requested them before."""
        ahead, needed = [name], set[str]()
        while ahead:
            needed.add(wanted := ahead.pop())
            definition = self._present().get(wanted)
            ahead += {*definition.after, *definition.requires} - needed if definition is not None else ()
        if self._inherited & needed:
            async with self._changing:
                for renounced in self._inherited & needed:
                    self._inherited.discard(renounced)
                    del self._changed[renounced]
                    self._forget_failure(renounced)
                await self._reload()

    def _try_again(self, daemon: SupervisedDaemon) -> None:
        """Retry a failed daemon if those that it depends on may have been the cause."""
        built_on = [*daemon.definition.after, *daemon.definition.requires]
        if daemon.name not in self._failed or daemon.ready or self._tries[daemon.name] >= DEPENDANT_TRIES:
            return
        if not built_on:
            return
        del self._failed[daemon.name]
        for name in (daemon.name, *built_on):
            other = self.supervisor.daemons.get(name)
            if other is not None and other.state in (State.BACKOFF, State.PARKED, State.UNAVAILABLE):
                self.supervisor.order(name, Event.STOP)

    def _start(self, daemon: SupervisedDaemon) -> None:
        """Start a daemon that is down, after those that it waits for or refers to."""
        if daemon.name in self.supervisor.fleet.changing or daemon.state not in (State.STOPPED, State.STOPPING):
            return
        for name in (*daemon.definition.after, *daemon.definition.requires):
            if name in self.supervisor.daemons:
                self._start(self.supervisor.daemons[name])
        self.supervisor.order(daemon.name, Event.START)

    def _fail(self, daemon: SupervisedDaemon, why: str) -> api.Needed:
        lines, _ = relevant_lines(daemon, SHOWN_LINES)
        failed = api.Needed(daemon=self.supervisor.status_of(daemon), failure=why, log_tail=tuple(lines))
        if daemon.state is not State.EXTERNAL:
            self._failed[daemon.name] = failed
            self._tries[daemon.name] = self._tries.get(daemon.name, 0) + 1
            self._give_up(daemon)
        return failed

    def _give_up(self, daemon: SupervisedDaemon) -> None:
        """Stop trying to start a failed daemon and those that it waits for."""
        if daemon.situation.waiting_for in self.supervisor.daemons:
            self._give_up(self.supervisor.daemons[daemon.situation.waiting_for])
        if daemon.state in SETTLING:
            self.supervisor.order(daemon.name, Event.STOP)

    def _why_not(self, daemon: SupervisedDaemon) -> str | None:
        """Return why a requested daemon will not become ready; None as long as it may."""
        if daemon.situation.waiting_for is not None:
            other = self.supervisor.daemons.get(daemon.situation.waiting_for)
            why = self._why_not(other) if other is not None and not other.ready else None
            return f"it waits for {daemon.situation.waiting_for}, which failed: {why}" if why is not None else None
        # A test run does not wait for a daemon that failed from the start: only one that worked before, or that lost
        # the race for its port, is retried.
        patience = PATIENT_FAILURES if daemon.past.has_been_ready or daemon.past.lost_its_port else 1
        tried = daemon.past.failed_starts >= patience
        match daemon.state:
            case State.PARKED | State.UNAVAILABLE | State.HELD:
                remedy = self.supervisor.status_of(daemon).remedy
                return f"{daemon.situation.detail or daemon.state.public}{f'; {remedy}' if remedy else ''}"
            case State.STOPPED:
                return daemon.situation.detail or "it is stopped"
            case State.RUNNING if daemon.situation.overdue:
                return daemon.situation.detail
            case State.BACKOFF if tried:
                return daemon.situation.detail or "it has failed"
            case State.STARTING | State.RUNNING if tried:
                return daemon.past.history.first_cause
            case State.EXTERNAL if daemon.situation.detail is not None and not daemon.ready:
                return f"{redacted(daemon.definition.external or '')} is not usable: {daemon.situation.detail}"
        return None

    async def define(self, definition: Definition) -> SupervisedDaemon:
        name = definition.name
        async with self._changing:
            before = self._changed.get(name)
            if name in self._inherited:
                self._inherited.discard(name)
                before = before if before == definition else None
            if before is not None and before != definition:
                raise Refused(
                    f"cannot change {name}: another worker or conftest.py has already changed it differently in this "
                    "run; use the same definition everywhere"
                )
            if before is None:
                _check_order({**self._present(), name: definition}.values())
                self._changed[name] = self._stated[name] = definition
                self._forget_failure(name)
                await self._reload()
            return self.supervisor.daemon(name)

    async def remove(self, name: str) -> None:
        daemon = self.supervisor.daemon(name)
        # Stop it first, so that others do not have to wait for that.
        self.supervisor.order(name, Event.STOP)
        await daemon.wait_for(lambda daemon: daemon.state is State.STOPPED or daemon.dropped)
        async with self._changing:
            self._changed.pop(name, None)
            self._forget_failure(name)
            await self._reload()
        if name in self._original:
            return
        state_dir = self.configuration.state
        if daemon.definition.data_dir == str(state_dir.data_dir(name)):
            await asyncio.to_thread(shutil.rmtree, state_dir.data_dir(name), True)
        if not is_held(
            state_dir.daemon_lock(name)
        ):  # else a process could not be stopped, and the lock proves whose it is
            for path in (state_dir.daemon_log(name), state_dir.daemon_lock(name)):
                path.unlink(missing_ok=True)

    def settings(self) -> api.SessionSettings:
        return api.SessionSettings(
            definitions=tuple(self._original.values()),
            keep_s=self._record.keep_s,
            stated=tuple(self._stated.values()),
        )

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        _check_order(settings.definitions)
        async with self._changing:
            if self._life is not None:
                self._life.keep_s = settings.keep_s
            self._record = msgspec.structs.replace(self._record, keep_s=settings.keep_s)
            stated = {definition.name: definition for definition in settings.definitions}
            self._inherited = {
                name for name in self._changed if name in stated and stated[name] == self._original.get(name)
            }
            self._changed = {name: self._changed[name] for name in self._inherited}
            self._stated = dict(self._changed)
            self._original = stated
            self._failed.clear()
            self._tries.clear()
            for daemon in self.supervisor.daemons.values():
                if daemon.state in (State.BACKOFF, State.PARKED, State.UNAVAILABLE):
                    # What failed for the previous user may work for this one.
                    self.supervisor.order(daemon.name, Event.STOP)
            return await self._reload()

    def _present(self) -> dict[str, Definition]:
        return {**self._original, **self._changed}

    async def _reload(self) -> list[Change]:
        self._record = msgspec.structs.replace(
            self._record, definitions=tuple(self._original.values()), changed=tuple(self._changed.values())
        )
        # For a supervisor that replaces this one.
        sessions.write(self.configuration.state, self._record)
        return await self.supervisor.reload(self._present().values())

    async def reload(self, *, dry_run: bool = False) -> list[Change]:
        raise Refused("a pytest session has no configuration file to reload")


def _is_spawned_or_waits(daemon: SupervisedDaemon) -> bool:
    return daemon.state is not State.STARTING or daemon.situation.waiting_for is not None


def _check_order(definitions: Iterable[Definition]) -> None:
    from neo_daemons.config.checks import check_order  # a first start does not need it

    check_order(definitions)


def main(directory: str, pipe: str | None = None) -> int | str:
    """Supervise the session of a state directory. Return the exit code, or an error message.

    Args:
        pipe: the descriptor from which a supervisor on standby reads the order to begin.
    """
    state_dir = StateDir(Path(directory))
    if pipe is not None and not await_order(int(pipe), state_dir):
        return 0
    record = sessions.read(state_dir)
    if record is None:
        return f"{state_dir.path} does not contain a session of this version"
    faults.write_to_stderr()
    try:
        asyncio.run(SessionOrchestrator(state_dir, record).supervise())
    except StateDirError as error:
        return str(error)
    return 0
