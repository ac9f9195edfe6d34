"""Takes what watching a daemon finds, and feeds it to its lifecycle."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from neo_daemons.status import Cause, EventName

from .machine import Event
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
    """What watching one daemon finds.

    Args:
        handle: feeds an event to its lifecycle.
        condemn: says that the present run must end.
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
        """An external daemon is usable, as far as the last probe says."""
        self.results: deque[tuple[float, Result]] = deque(maxlen=REMEMBERED_RESULTS)
        """What the probes have found lately: at what time (seconds since the epoch), and what."""

    def passed(self, how: str) -> None:
        """The run is ready, or answers again."""
        self._handle(Event.PASS, how)

    def failed(self, why: str) -> None:
        """A liveness probe has failed."""
        self._handle(Event.FAIL, why, cause=Cause.PROBE)

    def observed(self, why: str, *, ready: bool) -> None:
        """An external daemon is usable, or not."""
        if ready != self.external_ready or self.situation.detail is None:
            self.external_ready = ready
            self._slot.note(EventName.EXTERNAL_READY if ready else EventName.EXTERNAL_NOT_READY, why)

    def remember(self, result: Result, target: Target) -> None:
        """Keep what a probe of this target has found, on change only: ten thousand healthy polls add nothing. The
        first time in a run that a probe cannot tell, the journal says why."""
        if result.answer is Answer.UNKNOWN and "unknown" not in target.memory:
            target.memory["unknown"] = True
            self._slot.note(EventName.PROBE_UNKNOWN, result.detail)
        if not self.results or self.results[-1][1] != result:
            self.results.append((time.time(), result))

    def may_recycle(self) -> bool:
        """Whether the run may be ended now because of its age or size."""
        name, context = self._slot.name, self._slot.context
        return name not in context.holds and not context.is_inhibited(name)

    def may_kill(self) -> bool:
        """Whether the budget of kills by probes allows another one."""
        now = asyncio.get_running_loop().time()
        return may_kill(self._slot.definition.restart, self._past.history, now)
