"""The work in progress for one daemon: tasks, one at a time of each kind, and timers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any


class Job:
    """A kind of work of which at most one task runs at a time.

    Args:
        on_fault: called with an unexpected error that has ended the work.
    """

    def __init__(self, on_fault: Callable[[Exception], None]) -> None:
        self._on_fault = on_fault
        self._task: asyncio.Task[None] | None = None
        self._work: Coroutine[Any, Any, None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the work has begun and not yet finished."""
        return self._task is not None and not self._task.done()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin the work, replacing any in progress."""
        self.cancel()
        self._work = work
        self._task = asyncio.get_running_loop().create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._on_fault(error)

    def cancel(self) -> None:
        """Cancel the work, unless the work itself calls this: then it is about to finish."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            if self._work is not None and inspect.getcoroutinestate(self._work) == inspect.CORO_CREATED:
                self._work.close()  # it was to begin in this turn of the loop, and will not
        self._task = self._work = None

    async def stop(self) -> None:
        """Cancel the work, and wait until it has finished."""
        task = self._task
        self.cancel()
        await _ended(task)

    async def finished(self) -> None:
        """Wait until the work has finished."""
        await _ended(self._task)


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None and not task.done() and task is not asyncio.current_task():
        await asyncio.gather(task, return_exceptions=True)


class Timer:
    """Call a function once, later."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def start(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` after `delay_s`, replacing any pending call."""
        self.cancel()

        def due() -> None:
            self._handle = None
            callback()

        self._handle = asyncio.get_running_loop().call_later(delay_s, due)

    def cancel(self) -> None:
        """Cancel the pending call."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the call; None if none is pending."""
        return max(self._handle.when() - asyncio.get_running_loop().time(), 0.0) if self._handle is not None else None
