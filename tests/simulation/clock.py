"""The wall clock of a simulated world, which is set now and then: nothing may depend on it but what people read."""

from __future__ import annotations

import random

EPOCH_S = 1.8e9
STEPS_S = (-3600.0, -2.0, 2.0, 3600.0)
"""A correction by NTP, and a wrong time zone."""
STEPS_AT = 0.25
"""The share of the looks at a restless clock that find it stepped."""


class WallClock:
    """The wall clock. In every other world it is restless: it may step whenever somebody looks at it, which is at every
    moment at which a step can matter."""

    def __init__(self, seed: int) -> None:
        self.offset_s = 0.0
        self._rng = random.Random(-1 - seed)  # of its own, so that a world is the same with and without it
        self._is_restless = seed % 2 == 1

    def time(self, now: float) -> float:
        """What it shows `now` seconds after the beginning of the world."""
        if self._is_restless and self._rng.random() < STEPS_AT:
            self.offset_s += self._rng.choice(STEPS_S)
        return EPOCH_S + self.offset_s + now
