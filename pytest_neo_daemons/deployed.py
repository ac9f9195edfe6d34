"""The daemons of a run that an engine runs somewhere else, so that tests use them and never change them."""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
from msgspec import Struct


class Unreachable(Struct, frozen=True):
    """Why tests cannot use a daemon."""

    why: str
    skips: bool
    """Whether its tests are skipped if ``neo_daemons_unavailable`` is ``skip``: nothing is wrong."""


class Deployed(Struct, frozen=True, kw_only=True):
    """What an engine runs for a run."""

    engine: str = ""
    """The engine and which part of it: ``Kubernetes (namespace staging)``."""
    places: dict[str, str] = {}
    """Daemon → what it is there: ``service/chroma:8000``."""
    tunnels: frozenset[str] = frozenset()
    """Daemons that are reached through a tunnel, which the run's supervisor keeps up."""
    unreachable: dict[str, Unreachable] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.places or name in self.unreachable

    def refusal(self, name: str) -> str | None:
        """Return why tests must not disturb or change a daemon; None if the engine does not run it."""
        if name not in self:
            return None
        return (
            f"{self.engine} runs it, where others may be using it, and tests must not disturb it; "
            "run without --neo-daemons-engine"
        )


NOTHING = Deployed()
