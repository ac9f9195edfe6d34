"""What the daemons of one supervisor share: the system, the state directory, the journal. It knows no daemon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.state_dir import StateDir

from .broadcast import Broadcast
from .intentions import Holds
from .journal import Journal
from .ownership import Ownership
from .platform import Platform
from .probes import Prober


@dataclass(frozen=True, kw_only=True)
class Context:
    """One per supervisor, made when it begins to supervise."""

    platform: Platform
    ownership: Ownership
    token: str
    """The token in the mark of what the supervisor itself runs for a daemon: provisioning."""
    journal: Journal
    prober: Prober
    holds: Holds
    resolve: Callable[[Definition], Launch | CannotRun]
    """Says how a definition is run on this machine."""
    values: Mapping[str, str]
    """What references can name besides the daemons' own values."""
    env: Mapping[str, str]
    """The environment that daemons inherit."""
    gate: asyncio.Semaphore
    """Bounds how many daemons start at once."""
    rng: random.Random
    keep_claim: Callable[[], None]
    """Makes the state directory again if it was deleted; raises `StateDirLost` if it has become another's."""
    is_inhibited: Callable[[str], bool]
    """Tells whether a client asks for no recycling of this daemon."""
    changed: Broadcast = field(default_factory=Broadcast)
    """Notified when anything changes about any daemon. To wait for one daemon, wait for its own event."""
    tried: set[str] = field(default_factory=set)
    """Targets of provisions that have been seen to work."""

    @property
    def state_dir(self) -> StateDir:
        """The state directory."""
        return self.ownership.state_dir
