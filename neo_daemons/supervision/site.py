"""What the daemons of one supervisor share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neo_daemons.definitions import Definition, Launch, Unavailable
from neo_daemons.state_dir import StateDir

from .broadcast import Broadcast
from .journal import Journal
from .ownership import Ownership
from .platform import Platform, Process
from .probes import Prober

if TYPE_CHECKING:
    from .daemon import Daemon


class Site:
    """One per supervisor."""

    def __init__(
        self,
        *,
        platform: Platform,
        ownership: Ownership,
        token: str,
        journal: Journal,
        prober: Prober,
        resolve: Callable[[Definition], Launch | Unavailable],
        values: Mapping[str, str],
        env: Mapping[str, str],
        parallel: int,
        rng: random.Random,
    ) -> None:
        self.platform = platform
        self.ownership = ownership
        self.state: StateDir = ownership.state
        self.token = token
        """In the mark of what the supervisor itself runs for a daemon: provisioning."""
        self.journal = journal
        self.prober = prober
        self.resolve = resolve
        self.values = values
        self.env = env
        self.gate = asyncio.Semaphore(parallel)
        self.rng = rng
        self.changed = Broadcast()
        self.tried: set[str] = set()
        """Targets of provisions that have been seen to work."""
        self.daemons: dict[str, Daemon] = {}
        self.save_intentions: Callable[[], None] = lambda: None
        self.keep_claim: Callable[[], None] = lambda: None
        """Makes the state directory again if it was deleted; raises `StateDirLost` if it has become another's."""
        self.inhibited: Callable[[str], bool] = lambda name: False
        self.leftovers: dict[str, list[Process]] = {}
        """Marked processes found when the supervisor started, by daemon."""
        self.ending_orphans: list[Daemon] = []
        """What an earlier supervisor left, is no longer configured to run, and has not ended yet. It may have what our
        daemons need (ports, directories): none of them is started, or adopted, before it has."""
