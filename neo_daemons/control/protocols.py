"""What the control API needs from the supervisor's owner."""

from __future__ import annotations

from typing import Protocol

from neo_daemons.definitions import Definition
from neo_daemons.status import Change, Needed
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.supervisor import Supervisor

from . import api


class Controlled(Protocol):
    """The owner of a supervisor."""

    supervisor: Supervisor

    async def reload(self, *, dry_run: bool) -> list[Change]:
        """Reload the configuration and apply what has changed.

        Raises:
            ConfigError: the configuration cannot be used; nothing was changed.
        """

    def ask_to_stop(self, *, detach: bool) -> None:
        """Begin to shut down."""

    def lease_taken(self, lease: int, *, owner: bool) -> None:
        """Note that a client holds this lease from now on.

        Raises:
            Refused: too late, the supervisor is stopping.
        """

    def lease_dropped(self, lease: int) -> None:
        """Note that the client has given up this lease."""

    async def need(self, name: str, wait_s: float) -> Needed:
        """Start a daemon unless it is running, and wait up to `wait_s` seconds for the outcome."""

    @property
    def session(self) -> DefinedSession | None:
        """The session that the supervisor belongs to; None for a supervisor outside sessions."""


class DefinedSession(Protocol):
    """A session, usually of tests, whose users define daemons."""

    async def define(self, definition: Definition) -> SupervisedDaemon:
        """Add a daemon or change its definition.

        Raises:
            Refused: another client has already changed it differently.
        """

    async def remove(self, name: str) -> None:
        """Stop a daemon and delete its log and data."""

    def settings(self) -> api.SessionSettings:
        """Return the session's settings, without what `define` has changed since."""

    async def set_up(self, settings: api.SessionSettings) -> list[Change]:
        """Adopt the settings of the session's next user and return what changed."""
