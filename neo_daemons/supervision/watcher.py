"""Feed the results of watching a daemon to its lifecycle."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from neo_daemons.status import Cause, EventName

from .machine import Event, State
from .past import Past
from .policy import may_kill
from .probes import Answer, Result, Target
from .situation import Situation
from .slot import Slot

REMEMBERED_RESULTS = 20


class Handle(Protocol):
    """Feeds an event to the lifecycle."""

    def __call__(self, event: Event, detail: str | None = None, *, cause: Cause | None = None) -> None: ...


class Watcher:
    """Feed the results of watching one daemon to its lifecycle.

    Args:
        handle: handles an event of its lifecycle.
        condemn: ends the current run.
    """

    def __init__(
        self,
        slot: Slot,
        situation: Situation,
        past: Past,
        handle: Handle,
        condemn: Callable[[Cause, str], None],
    ) -> None:
        self._slot = slot
        self._past = past
        self._handle = handle
        self.situation = situation
        self.condemn = condemn
        self.external_ready = False
        """Whether an external daemon is usable, according to the last probe."""
        self.results: deque[tuple[float, Result]] = deque(maxlen=REMEMBERED_RESULTS)
        """The latest results of the probes, with their times in seconds since the epoch."""

    def passed(self, how: str) -> None:
        """Report that the run is ready, or answers again."""
        self._handle(Event.PASS, how)

    def failed(self, why: str) -> None:
        """Report that a liveness probe failed."""
        self._handle(Event.FAIL, why, cause=Cause.PROBE)

    def observed(self, why: str, *, ready: bool) -> None:
        """Report whether an external daemon is usable."""
        if ready != self.external_ready or self.situation.detail is None:
            self.external_ready = ready
            self._slot.note(EventName.EXTERNAL_READY if ready else EventName.EXTERNAL_NOT_READY, why)

    def remember(self, result: Result, target: Target, took_s: float | None) -> None:
        """Remember a probe's result if it differs from the last: ten thousand healthy polls add nothing. The first
        unknown result of a run also goes to the journal.

        Args:
            took_s: how long the probes took; None if there are none. While a run boots, only their success is counted.
        """
        counts = result.ok or (result.answer is Answer.FAILED and self._slot.state is not State.RUNNING)
        if took_s is not None and counts:
            self._slot.tally.probed(took_s, failed=not result.ok)
        if result.answer is Answer.UNKNOWN and "unknown" not in target.memory:
            target.memory["unknown"] = True
            self._slot.note(EventName.PROBE_UNKNOWN, result.detail)
        if not self.results or self.results[-1][1] != result:
            self.results.append((time.time(), result))

    def may_recycle(self) -> bool:
        """Whether the run may be stopped now because of its age or size."""
        name, context = self._slot.name, self._slot.context
        return name not in context.holds and not context.is_inhibited(name)

    def may_kill(self) -> bool:
        """Whether the kill budget of the probes allows another kill."""
        now = asyncio.get_running_loop().time()
        return may_kill(self._slot.definition.restart, self._past.history, now)
