"""The supervisor of a session: its daemons are on demand, its users define them, and it ends with the last lease."""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from neo_daemons.control import api
from neo_daemons.definitions import Definition
from neo_daemons.life import OWNER, Life
from neo_daemons.locks import is_held
from neo_daemons.orchestrator import AgentOrchestrator
from neo_daemons.state_dir import StateDir, StateDirError
from neo_daemons.status import Change, EventName, Needed
from neo_daemons.supervision import faults
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.machine import Event, Refused, State
from neo_daemons.supervision.platform import Lock, NotOurs, Process, Unverifiable

from . import session as sessions
from .clear import Cleared, clear
from .places import lock_of
from .session import SessionRecord
from .standby import await_order

RETRY_S = 0.05
SPAWN_S = 0.2
"""How long the control API waits for daemons to be spawned that are wanted at once. Those that need a provision take
longer."""
CLEARED_S = 2.0
"""How long a test waits until what earlier sessions left has been cleared away."""


class SessionOrchestrator(AgentOrchestrator):
    """Supervises the daemons of a session, from its file to the removal of its directory."""

    registers = False

    def __init__(self, state_dir: StateDir, record: SessionRecord) -> None:
        super().__init__(sessions.configuration(record, state_dir), on_demand=True)
        self.session = self
        self.supervisor.gives_up = True
        self._record = record
        self._original = {definition.name: definition for definition in record.definitions}
        self._changed = {definition.name: definition for definition in record.changed}
        """Definitions that users of the session have set."""
        self._stated = dict(self._changed)
        """The same, also those of daemons that are gone."""
        self._inherited: set[str] = set()
        """The names of those that an earlier run set: they apply until this run requests the daemon without them."""
        self._changing = asyncio.Lock()
        self._owner = self._open_owner()
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
            self.supervisor.demand.start(daemon)
        for daemon in begun:
            await daemon.wait_for(_is_spawned_or_waits, max(deadline - asyncio.get_running_loop().time(), 0.0))
        # One turn of the loop begins it.
        clearing = asyncio.create_task(self._clear_leftovers())
        self._clearing = faults.reported(clearing, "clearing away what earlier sessions left")
        await asyncio.sleep(0)

    def _begin(self) -> None:
        owner = self._owner
        self.life = Life(owner_lives=owner is not None, keep_s=self._record.keep_s, end=self._end)
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
        while self.life is not None and not self.life.leases:
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

    # Leases and needs

    def lease_taken(self, lease: int, *, owner: bool) -> None:
        if self.life is None:
            raise Refused("the session has not begun")
        super().lease_taken(lease, owner=owner)
        if owner and self._owner is not None:
            self._owner.close()
            self._owner = None

    async def need(self, name: str, wait_s: float) -> Needed:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        await self._renounce(name)
        needed = await super().need(name, wait_s)
        if needed.failure is None:
            # The run may be over soon, and its summary mentions what was reaped.
            await asyncio.wait({self._clearing}, timeout=max(min(deadline - loop.time(), CLEARED_S), 0.0))
        return needed

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
                    self.supervisor.needs.forget(renounced)
                await self._reload()

    # The methods of `control.protocols.DefinedSession`

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
                self.supervisor.needs.forget(name)
                await self._reload()
            return self.supervisor.daemon(name)

    async def remove(self, name: str) -> None:
        daemon = self.supervisor.daemon(name)
        # Stop it first, so that others do not have to wait for that.
        self.supervisor.order(name, Event.STOP)
        await daemon.wait_for(lambda daemon: daemon.state is State.STOPPED or daemon.dropped)
        async with self._changing:
            self._changed.pop(name, None)
            self.supervisor.needs.forget(name)
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
            if self.life is not None:
                self.life.keep_s = settings.keep_s
            self._record = msgspec.structs.replace(self._record, keep_s=settings.keep_s)
            stated = {definition.name: definition for definition in settings.definitions}
            self._inherited = {
                name for name in self._changed if name in stated and stated[name] == self._original.get(name)
            }
            self._changed = {name: self._changed[name] for name in self._inherited}
            self._stated = dict(self._changed)
            self._original = stated
            self.supervisor.needs.forget_all()
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
        return await self.supervisor.reload(self._wanted(self._present().values()))

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
    gc.freeze()
    gc.enable()
    record = sessions.read(state_dir)
    if record is None:
        return f"{state_dir.path} does not contain a session of this version"
    faults.write_to_stderr()
    try:
        asyncio.run(SessionOrchestrator(state_dir, record).supervise())
    except StateDirError as error:
        return str(error)
    return 0
