"""Daemons of one test's own: made like a shared one, with a name, ports and data of their own, and ended with the
test."""

from __future__ import annotations

import functools

import msgspec
import pytest

from neo_daemons.control.client import Client
from neo_daemons.definitions import Definition, Port
from neo_daemons.unpatched import Unpatched

from .definitions import define
from .handles import NOT_OURS, Daemon, begin
from .sessions import Session, suppress_unavailable

PREFIX = 40
"""How much of a daemon's name the name of an instance begins with."""


class Isolation:
    """The instances of the present test.

    Args:
        session: where they run.
        worker: in whose name.
    """

    def __init__(self, session: Session, worker: str) -> None:
        self._session = session
        self._worker = worker
        self.handles: list[Daemon] = []
        """Those of the present test; also when they have ended, until the next test begins."""

    @property
    def names(self) -> set[str]:
        """Their names, as the supervisor has them."""
        return {handle.name for handle in self.handles}

    def promise(self, name: str) -> Daemon:
        """A handle on an instance that is yet to begin."""
        return Daemon(self._session, name, lambda: None)

    def begin(self, handle: Daemon, definition: Definition | None) -> Daemon:
        """Start an instance, and have the handle lead to it.

        The test fails, without a traceback, if it cannot be had.
        """
        if not self._session.ours or definition is None:
            pytest.fail(f"{handle.name} cannot be isolated: {NOT_OURS}", pytrace=False)
        name = definition.name
        if definition.external:
            pytest.fail(f"{name} cannot be isolated because it is external", pytrace=False)
        # Random: a worker that takes a dead one's place counts anew, and a configured daemon may be called alike.
        handle.lead_to(f"{name[:PREFIX]}-{self._worker}-{Unpatched.urandom(4).hex()}")
        data_dir = str(self._session.state_dir.data_dir(handle.name)) if definition.data_dir is not None else None
        ports = dict.fromkeys(definition.ports, Port())
        own = msgspec.structs.replace(definition, name=handle.name, ports=ports, data_dir=data_dir)
        self.handles.append(handle)
        define(self._session, own)
        return begin(handle)

    def end(self) -> None:
        """End them, with their logs and data."""
        for handle in self.handles:
            with suppress_unavailable():
                self._session.ask(functools.partial(Client.remove, name=handle.name))
