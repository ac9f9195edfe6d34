"""The supervisor of a session: the orchestrator, with daemons on demand and a life as long as its leases."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec

from neo_daemons.config.checks import check_order
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
from .session import SessionRecord

SHOWN_LINES = 30
"""Of the log of a run that failed."""
RETRY_S = 0.05
DEPENDANT_TRIES = 3
"""How often what is built on other daemons is tried in a run: it may have failed because of them."""


class SessionOrchestrator(AgentOrchestrator):
    """Supervises the daemons of a session, from its file to the removal of its directory."""

    def __init__(self, state_dir: StateDir, record: SessionRecord) -> None:
        super().__init__(sessions.configuration(record, state_dir), on_demand=True)
        self.session = self
        self._record = record
        self._original = {definition.name: definition for definition in record.definitions}
        self._changed = {definition.name: definition for definition in record.changed}
        """Definitions that users of the session have set."""
        self._inherited: set[str] = set()
        """Those of them that an earlier run set: they hold until this one asks for the daemon otherwise."""
        self._changing = asyncio.Lock()
        self._failed: dict[str, api.Needed] = {}
        """What could not be had, and was not ready since."""
        self._tries: dict[str, int] = {}
        """How often each of these was tried in vain."""
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
        """Until the last lease has ended; then nothing is left.

        Raises:
            AlreadyRunning, StateDirError: as `AgentOrchestrator.start`.
        """
        await self.run(started=self._begin)
        # Ended by a signal, with users: then what it left is theirs to clear away, or another supervisor's to take.
        if self._lock is not None or (self._take_lock() and self._lock is not None):
            sessions.remove(self.configuration.state, self._lock, self.supervisor.platform)

    def _begin(self) -> None:
        owner = self._owner
        self._life = Life(owner_lives=owner is not None, keep_s=self._record.keep_s, end=self._end)
        if owner is not None:
            owner.watch(lambda status: self.lease_dropped(OWNER))
        clearing = asyncio.create_task(self._clear_leftovers())
        self._clearing = faults.reported(clearing, "clearing away what earlier sessions left")

    async def _clear_leftovers(self) -> None:
        """What sessions left whose supervisor and users died at once."""

        def tell(cleared: Cleared) -> None:
            for orphan in cleared.ended:
                detail = f"{orphan.name}, pid {orphan.pid}, which an earlier session left in {orphan.state_dir}"
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
        """End, once nobody else is about to use, or to clear away, this session."""
        while self._life is not None and not self._life.leases:
            if self._take_lock():
                self.ask_to_stop()
                return
            await asyncio.sleep(RETRY_S)

    def _take_lock(self) -> bool:
        """Whether nobody else uses this session. Where that cannot be told, because the lock's directory is gone or
        no descriptor is left, nobody can."""
        try:
            self._lock = self.supervisor.platform.lock(sessions.lock_of(self.configuration.state))
        except OSError:
            return True
        return self._lock is not None

    # What `control.protocols.OnDemandSession` promises

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
                return api.Needed(daemon=self.supervisor.status_of(daemon))
            await daemon.situation.change(left_s)

    async def _renounce(self, name: str) -> None:
        """Have a daemon, and those that it waits for, as they are stated, where only an earlier run wanted it
        otherwise: this one would have said so before."""
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
        """Give a daemon that could not be had another try, where others that it is built on may have been why."""
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
        """Start a daemon that is down, and before it those that it waits for or refers to."""
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
        """Try no more to start it, nor what it waits for: in this run it has failed."""
        if daemon.situation.waiting_for in self.supervisor.daemons:
            self._give_up(self.supervisor.daemons[daemon.situation.waiting_for])
        if daemon.state in SETTLING:
            self.supervisor.order(daemon.name, Event.STOP)

    def _why_not(self, daemon: SupervisedDaemon) -> str | None:
        """Why a daemon that was asked for will not be ready; None as long as it may be."""
        if daemon.situation.waiting_for is not None:
            other = self.supervisor.daemons.get(daemon.situation.waiting_for)
            why = self._why_not(other) if other is not None and not other.ready else None
            return f"it waits for {daemon.situation.waiting_for}, which failed: {why}" if why is not None else None
        # A test run waits for nothing that has failed from the start: only a daemon that worked before, or that lost
        # the race for its port, gets its further tries.
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
                    f"cannot change {name}: in this run it has been changed to something else already, by another "
                    "worker or conftest.py; let its definition be the same everywhere"
                )
            if before is None:
                check_order({**self._present(), name: definition}.values())
                self._changed[name] = definition
                self._forget_failure(name)
                await self._reload()
            return self.supervisor.daemon(name)

    async def remove(self, name: str) -> None:
        daemon = self.supervisor.daemon(name)
        # Stopped before others have to wait for that.
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
        if not is_held(state_dir.daemon_lock(name)):  # else a process could not be ended, and this proves whose it is
            for path in (state_dir.daemon_log(name), state_dir.daemon_lock(name)):
                path.unlink(missing_ok=True)

    def settings(self) -> api.SessionSettings:
        return api.SessionSettings(definitions=tuple(self._original.values()), keep_s=self._record.keep_s)

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        check_order(settings.definitions)
        async with self._changing:
            if self._life is not None:
                self._life.keep_s = settings.keep_s
            self._record = msgspec.structs.replace(self._record, keep_s=settings.keep_s)
            stated = {definition.name: definition for definition in settings.definitions}
            self._inherited = {
                name for name in self._changed if name in stated and stated[name] == self._original.get(name)
            }
            self._changed = {name: self._changed[name] for name in self._inherited}
            self._original = stated
            self._failed.clear()
            self._tries.clear()
            for daemon in self.supervisor.daemons.values():
                if daemon.state in (State.BACKOFF, State.PARKED, State.UNAVAILABLE):
                    # What failed for the user before may work for this one.
                    self.supervisor.order(daemon.name, Event.STOP)
            return await self._reload()

    def _present(self) -> dict[str, Definition]:
        return {**self._original, **self._changed}

    async def _reload(self) -> list[Change]:
        self._record = msgspec.structs.replace(
            self._record, definitions=tuple(self._original.values()), changed=tuple(self._changed.values())
        )
        # For a supervisor that takes our place.
        sessions.write(self.configuration.state, self._record)
        return await self.supervisor.reload(self._present().values())

    async def reload(self, *, dry_run: bool = False) -> list[Change]:
        raise Refused("the daemons of a session are what pytest has it run; there is no file to read again")


def main(directory: str) -> int | str:
    """Supervise the session of a state directory; the exit code, or what went wrong."""
    state_dir = StateDir(Path(directory))
    record = sessions.read(state_dir)
    if record is None:
        return f"{state_dir.path} holds no session of this version"
    faults.write_to_stderr()
    try:
        asyncio.run(SessionOrchestrator(state_dir, record).supervise())
    except StateDirError as error:
        return str(error)
    return 0
