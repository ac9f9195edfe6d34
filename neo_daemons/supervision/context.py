"""What the daemons of one supervisor share: the system, the state directory, the journal. It knows no daemon."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.state_dir import StateDir

from .broadcast import Changes
from .census import Census
from .intentions import Holds
from .journal import Journal
from .ownership import Ownership
from .platform import Platform
from .probes import Prober
from .turns import Turns


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the daemons of one supervisor share. Created when it begins to supervise."""

    platform: Platform
    ownership: Ownership
    census: Census
    turns: Turns
    """Spreads work for many daemons over the turns of the event loop."""
    token: str
    """The token in the mark of processes that the supervisor runs for a daemon, such as provisioning steps."""
    journal: Journal
    prober: Prober
    holds: Holds
    resolve: Callable[[Definition], Launch | CannotRun]
    """Determines how a definition is run on this machine."""
    values: Mapping[str, str]
    """Values that references can name, besides the daemons' own."""
    env: Mapping[str, str]
    """The environment that daemons inherit."""
    gate: asyncio.Semaphore
    """Limits how many daemons start at once."""
    rng: random.Random
    keep_claim: Callable[[], None]
    """Recreates the state directory if it was deleted. Raises `StateDirLost` if another supervisor now owns it."""
    keep_log: Callable[[str], None]
    """Checks the log of a daemon soon: a run has begun, or its limits have changed."""
    is_inhibited: Callable[[str], bool]
    """Whether a client has asked that this daemon not be recycled."""
    start_below: Callable[[str], None]
    """Starts what a daemon stands on and is on demand: it is about to start."""
    is_stopping: Callable[[], bool]
    """Whether the supervisor is stopping, so that nothing new may start."""
    changed: Changes = field(default_factory=Changes)
    """Notified when any daemon changes. To wait for one daemon, wait for its own event."""
    tried: set[str] = field(default_factory=set)
    """Targets of provisions that are known to work."""

    @property
    def state_dir(self) -> StateDir:
        """The state directory."""
        return self.ownership.state_dir
