"""What has happened to a daemon since this supervisor began to supervise it, counted for metrics."""

from __future__ import annotations

import time

from neo_daemons.status import Cause


class Tally:
    """Counts the restarts, exits and probes of one daemon. The counts only grow."""

    def __init__(self) -> None:
        self.since = time.time()
        """When the counting began; seconds since the epoch."""
        self.restarts = 0
        self.exits: dict[Cause, int] = dict.fromkeys((Cause.EXIT, Cause.SIGNAL, Cause.PROBE), 0)
        """By cause. Those of a failure are there from the start, so that the first one is seen as an increase."""
        self.probes = 0
        """Rounds of all its probes."""
        self.probe_failures = 0
        self.probe_s = 0.0
        """How long these rounds took together."""

    def exited(self, cause: Cause | None) -> None:
        """Count an exit."""
        cause = cause or Cause.EXIT
        self.exits[cause] = self.exits.get(cause, 0) + 1

    def probed(self, took_s: float, *, failed: bool) -> None:
        """Count a round of probes."""
        self.probes += 1
        self.probe_s += took_s
        self.probe_failures += failed
