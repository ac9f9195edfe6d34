"""The supervisor of a session: the orchestrator, with daemons on demand and a life as long as its leases."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import msgspec

from neo_daemons.control import api
from neo_daemons.control.server import PATIENT_FAILURES
from neo_daemons.definitions import Definition
from neo_daemons.orchestrator import AgentOrchestrator
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Change, DaemonStatus
from neo_daemons.supervision.daemon import Daemon
from neo_daemons.supervision.machine import Event, Refused, State
from neo_daemons.supervision.platform import Lock, NotOurs, Process, Unverifiable

from . import session as sessions
from .clear import Cleared, clear
from .life import OWNER, Life
from .session import Session

SHOWN_LINES = 30
"""Of the log of a run that failed."""
RETRY_S = 0.05


class SessionOrchestrator(AgentOrchestrator):
    """Supervises the daemons of a session, from its file to the removal of its directory."""

    def __init__(self, state: StateDir, session: Session) -> None:
        super().__init__(sessions.configuration(session, state), on_demand=True)
        self.session = self
        self._session = session
        self._original = {definition.name: definition for definition in session.definitions}
        self._changed: dict[str, Definition] = {}
        """Definitions that a user of the session has set."""
        self._failed: dict[str, api.Needed] = {}
        """What could not be had, and was not ready since."""
        self._owner = self._open_owner()
        self._life: Life | None = None
        self._ending: asyncio.Task[None] | None = None
        self._lock: Lock | None = None

    def _open_owner(self) -> Process | None:
        try:
            return self.supervisor.platform.open(self._session.owner.pid, self._session.owner.identity)
        except (NotOurs, Unverifiable):
            return None

    async def supervise(self) -> None:
        """Until the last lease has ended; then nothing is left.

        Raises:
            AlreadyRunning, StateDirError: as `AgentOrchestrator.start`.
        """
        try:
            await self.run(started=self._begin)
        finally:
            if self._lock is not None:
                shutil.rmtree(self.configuration.state.path, ignore_errors=True)
                if self._session.keep_s == 0:
                    self._lock.path.unlink(missing_ok=True)
                self._lock.release()

    def _begin(self) -> None:
        owner = self._owner
        self._life = Life(owner_lives=owner is not None, keep_s=self._session.keep_s, end=self._end)
        if owner is not None:
            owner.watch(lambda status: self.lease_dropped(OWNER))
        self._clearing = asyncio.create_task(self._clear_leftovers())

    async def _clear_leftovers(self) -> None:
        """What sessions left whose supervisor and users died at once."""

        def tell(cleared: Cleared) -> None:
            for orphan in cleared.ended:
                detail = f"{orphan.name}, pid {orphan.pid}, which an earlier session left in {orphan.state_dir}"
                self.supervisor.journal.add("reaped", pid=orphan.pid, detail=detail)
            if not cleared.ended:
                self.supervisor.journal.add("cleared", detail=str(cleared.state.path))

        own = self.configuration.state.path
        for cleared in await asyncio.to_thread(lambda: list(clear(own.parent, skip=own.name))):
            tell(cleared)

    def _end(self) -> None:
        self._ending = asyncio.create_task(self._end_unless_used())

    async def _end_unless_used(self) -> None:
        """End, once nobody else is about to use, or to clear away, this session."""
        path = sessions.lock_of(self.configuration.state)
        while self._life is not None and not self._life.leases:
            with contextlib.suppress(OSError):
                self._lock = self.supervisor.platform.lock(path)
            if self._lock is not None:
                self.ask_to_stop()
                return
            await asyncio.sleep(RETRY_S)

    # What `control.server.Session` promises

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

    async def need(self, name: str, wait_s: float) -> api.Needed:
        daemon = self.supervisor.daemon(name)
        if name in self._failed and not daemon.ready:
            return self._failed[name]
        if daemon.state in (State.STOPPED, State.STOPPING):
            self.supervisor.order(name, Event.START)
        if wait_s:
            await daemon.wait_for(lambda daemon: daemon.ready or self._why_not(daemon) is not None, wait_s)
        why = None if daemon.ready else self._why_not(daemon)
        if why is None:
            self._failed.pop(name, None)
            return api.Needed(daemon=self._status(name))
        start = daemon.target.log_start if daemon.target is not None else 0
        tail = tuple(daemon.log.tail(SHOWN_LINES, since=start))
        failed = api.Needed(daemon=self._status(name), failure=why, log_tail=tail)
        if daemon.state is not State.EXTERNAL:
            self._failed[name] = failed
        return failed

    def _status(self, name: str) -> DaemonStatus:
        return self.supervisor.daemon(name).status(None)

    def _why_not(self, daemon: Daemon) -> str | None:
        """Why a daemon that was asked for will not be ready; None as long as it may be."""
        if daemon.waiting_for is not None:
            other = self.supervisor.daemons.get(daemon.waiting_for)
            why = self._why_not(other) if other is not None and not other.ready else None
            return f"it waits for {daemon.waiting_for}, which failed: {why}" if why is not None else None
        # A test run waits for nothing that has failed from the start: only a daemon that worked before, or that lost
        # the race for its port, gets its further tries.
        patience = PATIENT_FAILURES if daemon.has_been_ready or daemon.lost_its_port else 1
        tried = daemon.history.failures >= patience
        match daemon.state:
            case State.PARKED | State.UNAVAILABLE | State.HELD:
                remedy = daemon.status(None).remedy
                return f"{daemon.detail or daemon.state.public}{f'; {remedy}' if remedy else ''}"
            case State.STOPPED:
                return daemon.detail or "it is stopped"
            case State.BACKOFF if tried:
                return daemon.detail or "it has failed"
            case State.STARTING | State.RUNNING if tried:
                return daemon.history.first_cause
            case State.EXTERNAL if daemon.detail is not None and not daemon.ready:
                return f"{daemon.definition.external} is not usable: {daemon.detail}"
        return None

    async def define(self, definition: Definition) -> Daemon:
        name = definition.name
        before = self._changed.get(name)
        if before is not None and before != definition:
            raise Refused(
                f"cannot change {name}: in this run it has been changed to something else already; "
                "let its definition be the same in every worker"
            )
        self._changed[name] = definition
        self._failed.pop(name, None)
        await self._reload({**self._present(), name: definition})
        return self.supervisor.daemon(name)

    async def remove(self, name: str) -> None:
        daemon = self.supervisor.daemon(name)
        self._changed.pop(name, None)
        self._failed.pop(name, None)
        definitions = self._present()
        definitions.pop(name)
        if name in self._original:
            definitions[name] = self._original[name]
        await self._reload(definitions)
        state = self.configuration.state
        if daemon.definition.data_dir is not None and daemon.definition.data_dir == str(state.data_dir(name)):
            await asyncio.to_thread(shutil.rmtree, state.data_dir(name), True)
        if name not in self._original:
            for path in (state.daemon_log(name), state.daemon_lock(name)):
                path.unlink(missing_ok=True)

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        self._changed.clear()
        self._failed.clear()
        self._original = {definition.name: definition for definition in settings.definitions}
        if self._life is not None:
            self._life.keep_s = settings.keep_s
        self._session = msgspec.structs.replace(self._session, keep_s=settings.keep_s)
        return await self._reload(self._original)

    def _present(self) -> dict[str, Definition]:
        return {daemon.name: daemon.definition for daemon in self.supervisor.daemons.values()}

    async def _reload(self, definitions: dict[str, Definition]) -> list[Change]:
        self._session = msgspec.structs.replace(self._session, definitions=tuple(definitions.values()))
        # For a supervisor that takes our place.
        sessions.write(self.configuration.state, self._session)
        return await self.supervisor.reload(definitions.values())

    async def reload(self, *, dry_run: bool = False) -> list[Change]:
        raise Refused("the daemons of a session are what pytest has it run; there is no file to read again")


def main(state_dir: str) -> int | str:
    """Supervise the session of a state directory; the exit code, or what went wrong."""
    state = StateDir(Path(state_dir))
    session = sessions.read(state)
    if session is None:
        return f"{state.path} holds no session of this version"
    asyncio.run(SessionOrchestrator(state, session).supervise())
    return 0
