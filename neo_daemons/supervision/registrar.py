"""Keep a supervisor's entry in the user's registry true, so that test processes keep away from its daemons.

The registry is in the home directory, which may be on a server that hangs. So a thread works on it, one task at a time,
and supervision goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import urllib.parse
from collections.abc import Callable

from neo_daemons import threads
from neo_daemons.registry import Entry, Registered, Registration, RegistryError
from neo_daemons.status import EventName

from .daemon import SupervisedDaemon
from .machine import State
from .supervisor import Supervisor

AWAY = frozenset({State.STOPPED, State.PARKED, State.HELD, State.UNAVAILABLE, State.DONE})
"""States in which a daemon has no process and is about to get none, so that others may use its ports."""
WHOLE_S = 10.0
"""How often it is checked whether the entry is still there, as long as nothing has changed."""
PATIENCE_S = 2.0
"""How long the start and the end of a supervisor wait for the registry."""


class Registrar:
    """Registers a supervisor from `begin` to `end`. It never fails: a fault is entered in the journal, once.

    Args:
        socket: the path of the control API's socket.
    """

    def __init__(self, supervisor: Supervisor, socket: str) -> None:
        self._supervisor = supervisor
        self._socket = socket
        self._registration = Registration()
        self._daemons: dict[str, Registered] = {}
        self._changed = supervisor.changed.names()
        self._entry: Entry | None = None
        self._written: Entry | None = None
        self._fault: str | None = None
        self._next_check = 0.0
        self._idle = asyncio.Event()
        """Set while the thread has nothing to do."""
        self._idle.set()

    async def begin(self) -> None:
        """Register the supervisor, as it is now."""
        self._changed.update(dict.fromkeys(self._supervisor.daemons))
        self.keep()
        await self._finish()

    def keep(self) -> None:
        """Begin to write the entry again if it is no longer true, or was deleted. Call this every second or two, so
        that many changes at once cost one write."""
        now = asyncio.get_running_loop().time()
        if not self._idle.is_set():
            return  # what has changed meanwhile is written the next time
        if self._changed or self._entry is None:
            self._look()
            self._entry = self._describe()
        elif now < self._next_check and self._fault is None:
            return
        self._next_check = now + WHOLE_S
        entry = self._entry
        self._begin(lambda: self._write(entry))

    def _write(self, entry: Entry) -> str | None:
        """Write the entry unless it is there already; return why it cannot be written."""
        if entry == self._written and self._registration.is_whole():
            return None
        try:
            self._registration.write(entry)
        except RegistryError as error:
            return _fault(error)
        self._written = entry
        return None

    def _begin(self, work: Callable[[], str | None]) -> None:
        """Begin to work in a thread. When the thread ends, a fault that `work` returns goes to the journal."""
        loop = asyncio.get_running_loop()
        self._idle.clear()

        def run() -> None:
            fault = None
            try:
                fault = work()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(self._ended, fault)

        try:
            threads.start(run, "neo-daemons registry")
        except RuntimeError as error:  # the system has no more threads
            self._ended(_fault(error))

    def _ended(self, fault: str | None) -> None:
        self._idle.set()
        if fault is not None and fault != self._fault:
            self._supervisor.journal.add(EventName.NOT_REGISTERED, detail=fault)
        self._fault = fault

    async def _finish(self) -> bool:
        """Wait for the thread; return whether it has ended in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), PATIENCE_S)
        return self._idle.is_set()

    def _look(self) -> None:
        """Look at the daemons that have changed, and at no other."""
        daemons = self._supervisor.daemons
        for name in self._changed:
            daemon = daemons.get(name)
            if daemon is not None and not daemon.definition.external:
                self._daemons[name] = _registered(daemon)
            else:
                self._daemons.pop(name, None)
        self._changed.clear()
        for name in self._daemons.keys() - daemons.keys():  # a reload has removed them
            del self._daemons[name]

    def _describe(self) -> Entry:
        supervisor = self._supervisor
        url = urllib.parse.urlsplit(supervisor.url or "")
        return Entry(
            state_dir=str(supervisor.state_dir.path),
            pid=os.getpid(),
            config=supervisor.config,
            socket=self._socket,
            control=(url.hostname, url.port) if url.hostname and url.port else None,
            daemons=tuple(self._daemons.values()),
        )

    async def end(self) -> None:
        """Remove the entry. If the registry hangs, the lock tells: the kernel frees it when this process ends."""
        if await self._finish():
            self._begin(self._registration.close)
            await self._finish()


def _fault(error: Exception) -> str:
    return f"test processes are not kept away from these daemons, because they cannot be registered: {error}"


def _registered(daemon: SupervisedDaemon) -> Registered:
    definition = daemon.definition
    return Registered(
        name=daemon.name,
        host=definition.host,
        ports={} if daemon.state in AWAY else dict(daemon.slot.ports.numbers),
        data_dir=definition.data_dir,
        database=definition.options.get("database"),
    )
