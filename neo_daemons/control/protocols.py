"""What the control API needs of the supervisor's owner."""

from __future__ import annotations

from typing import Protocol

from neo_daemons.definitions import Definition
from neo_daemons.status import Change
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.supervisor import Supervisor

from . import api


class Controlled(Protocol):
    """The owner of a supervisor."""

    supervisor: Supervisor

    async def reload(self, *, dry_run: bool) -> list[Change]:
        """Read the configuration again and bring the daemons in line with it.

        Raises:
            ConfigError: the configuration cannot be used; nothing was changed.
        """

    def ask_to_stop(self, *, detach: bool) -> None:
        """Begin to shut down."""

    @property
    def session(self) -> OnDemandSession | None:
        """What the supervisor of a session can do beyond others; None for a supervisor that belongs to no session."""


class OnDemandSession(Protocol):
    """A session, of tests mostly: it starts daemons on demand, and lasts as long as somebody holds a lease on it."""

    def lease_taken(self, lease: int, *, owner: bool) -> None:
        """A client holds this lease from now on.

        Raises:
            Refused: too late, the session ends.
        """

    def lease_dropped(self, lease: int) -> None:
        """No client holds this lease any more."""

    def ordered(self, name: str) -> None:
        """A client has given a daemon an order: the failures that were remembered of it no longer count."""

    async def need(self, name: str, wait_s: float) -> api.Needed:
        """Start a daemon unless it runs, and wait up to `wait_s` seconds for the outcome."""

    async def define(self, definition: Definition) -> SupervisedDaemon:
        """Add a daemon, or change it.

        Raises:
            Refused: it has been changed to something else already.
        """

    async def remove(self, name: str) -> None:
        """End a daemon and forget it."""

    def settings(self) -> api.SessionSettings:
        """What the session was set up to be, without what `define` has changed since."""

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        """Take the definitions of another user of the session; what changed."""
