"""Work under way for one daemon: tasks of which there is one at a time, and timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Job:
    """A kind of work of which at most one is under way.

    Args:
        on_fault: called with an error that the work did not expect, when it has ended because of that.
    """

    def __init__(self, on_fault: Callable[[Exception], None]) -> None:
        self._on_fault = on_fault
        self._task: asyncio.Task[None] | None = None

    @property
    def is_under_way(self) -> bool:
        """The work has begun, and not ended yet."""
        return self._task is not None and not self._task.done()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin, in place of what was under way."""
        self.cancel()
        self._task = asyncio.get_running_loop().create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._on_fault(error)

    def cancel(self) -> None:
        """Give the work up, unless it is itself what asks for that: then it is about to end."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._task = None

    async def stop(self) -> None:
        """Give the work up, and wait until it has ended."""
        task = self._task
        self.cancel()
        await _ended(task)

    async def finished(self) -> None:
        """Wait until the work has ended."""
        await _ended(self._task)


async def _ended(task: asyncio.Task[None] | None) -> None:
    if task is not None and task is not asyncio.current_task():
        await asyncio.gather(task, return_exceptions=True)


class Timer:
    """Calls something once, later."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    def start(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` after `delay_s`, in place of what was to be called."""
        self.cancel()

        def due() -> None:
            self._handle = None
            callback()

        self._handle = asyncio.get_running_loop().call_later(delay_s, due)

    def cancel(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the call; None if there will be none."""
        return max(self._handle.when() - asyncio.get_running_loop().time(), 0.0) if self._handle is not None else None
