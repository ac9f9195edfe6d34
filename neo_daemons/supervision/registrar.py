"""Keep a supervisor's entry in the user's registry true, so that test processes keep away from its daemons."""

from __future__ import annotations

import os
import urllib.parse

from neo_daemons.registry import Entry, Registered, Registration, RegistryError
from neo_daemons.status import EventName

from .daemon import SupervisedDaemon
from .machine import State
from .supervisor import Supervisor

AWAY = frozenset({State.STOPPED, State.PARKED, State.HELD, State.UNAVAILABLE})
"""States in which a daemon has no process and is about to get none, so that others may use its ports."""


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
        self._written: Entry | None = None
        self._fault: str | None = None

    def begin(self) -> None:
        """Register the supervisor, as it is now."""
        self._changed.update(dict.fromkeys(self._supervisor.daemons))
        self.keep()

    def keep(self) -> None:
        """Write the entry again if it is no longer true, or was deleted. Call this every second or two, so that many
        changes at once cost one write."""
        if self._changed:
            self._look()
        elif self._registration.is_whole():
            return
        entry = self._entry()
        if entry == self._written and self._registration.is_whole():
            return
        try:
            self._registration.write(entry)
        except RegistryError as error:
            self._tell(
                f"test processes are not kept away from these daemons, because they cannot be registered: {error}"
            )
        else:
            self._written, self._fault = entry, None

    def _look(self) -> None:
        """Look at the daemons that have changed, and at no other."""
        daemons = self._supervisor.daemons
        for name in self._changed:
            daemon = daemons.get(name)
            if daemon is not None and not daemon.definition.external:
                self._daemons[name] = _registered(daemon)
        self._changed.clear()
        for name in self._daemons.keys() - daemons.keys():  # a reload has removed them
            del self._daemons[name]

    def _entry(self) -> Entry:
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

    def _tell(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._supervisor.journal.add(EventName.NOT_REGISTERED, detail=fault)

    def end(self) -> None:
        """Remove the entry."""
        self._registration.close()


def _registered(daemon: SupervisedDaemon) -> Registered:
    definition = daemon.definition
    return Registered(
        name=daemon.name,
        host=definition.host,
        ports={} if daemon.state in AWAY else dict(daemon.slot.ports.numbers),
        data_dir=definition.data_dir,
        database=definition.options.get("database"),
    )
