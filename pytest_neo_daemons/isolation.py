"""Isolated daemons: instances of a shared daemon with their own name, ports and data, which exist for one test."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from neo_daemons.control.client import Client
from neo_daemons.definitions import Definition, Port
from neo_daemons.unpatched import Unpatched

from .definitions import define
from .handles import Daemon, begin
from .sessions import NOT_OURS, Session
from .unavailable import suppress_unavailable

PREFIX = 40
"""The number of characters of a daemon's name with which the name of an instance begins."""


class Isolation:
    """The instances of the current test.

    Args:
        session: where they run.
        worker: the name of the process; part of the names of its instances.
    """

    def __init__(self, session: Session, worker: str) -> None:
        self._session = session
        self._worker = worker
        self.handles: list[Daemon] = []
        """The handles of the current test. They are kept after their daemons have exited, until the next test."""

    @property
    def names(self) -> set[str]:
        """Their names in the supervisor."""
        return {handle.name for handle in self.handles}

    def promise(self, name: str) -> Daemon:
        """Return a handle for an instance that has not been started yet."""
        return Daemon(self._session, name, lambda: None)

    def begin(
        self, handle: Daemon, definition: Definition | None, fill: Callable[[Path], None] | None = None
    ) -> Daemon:
        """Start an instance and point the handle to it.

        Args:
            fill: makes its data directory, which does not exist yet.

        The test fails, without a traceback, if the instance is not available.
        """
        why = self._session.refusal(handle.name)
        if why is not None or definition is None:
            pytest.fail(f"new_daemon({handle.name!r}) is not possible: {why or NOT_OURS}", pytrace=False)
        name = definition.name
        if definition.external:
            pytest.fail(f"{name} cannot be isolated because it is external", pytrace=False)
        # Random: a worker that replaces a crashed one starts counting again, and a configured daemon may have the name.
        handle.lead_to(f"{name[:PREFIX]}-{self._worker}-{Unpatched.urandom(4).hex()}")
        data_dir = str(self._session.state_dir.data_dir(handle.name)) if definition.data_dir is not None else None
        ports = dict.fromkeys(definition.ports, Port())
        own = msgspec.structs.replace(definition, name=handle.name, ports=ports, data_dir=data_dir)
        if fill is not None and data_dir is not None:
            fill(Path(data_dir))
        self.handles.append(handle)
        define(self._session, own)
        return begin(handle)

    def end(self) -> None:
        """Stop the instances and delete their logs and data."""
        for handle in self.handles:
            with suppress_unavailable():
                self._session.ask(functools.partial(Client.remove, name=handle.name))
