"""Supervisors that can be killed at any moment, as processes can: the event loop runs nothing of a dead one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Iterator
from typing import Any

from tests.virtual import VirtualLoop


class Killed(BaseException):
    """The running supervisor was killed: nothing that it does from here on has an effect."""


class Incarnation:
    """One process of a supervisor."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_subreaper = number % 2 == 1
        """Whether orphans are re-parented to it."""
        self.dead = False
        self.supervisor: Any = None


running: contextvars.ContextVar[Incarnation | None] = contextvars.ContextVar("running", default=None)
"""The process that the running code belongs to; None for the world itself."""


@contextlib.contextmanager
def acting_as(incarnation: Incarnation | None) -> Iterator[None]:
    """Run code, and create tasks and timers, as a part of this process."""
    token = running.set(incarnation)
    try:
        yield
    finally:
        running.reset(token)


class Loop(VirtualLoop):
    """An event loop that runs no callback of a dead incarnation."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[asyncio.Task[Any]] = []
        """All incarnations ever: forgetting a dead one would run its cleanup."""
        self.set_task_factory(self._make)

    def _make(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.Task(work, loop=self, **options))
        return self.tasks[-1]

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_soon(self._living(callback, context), *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return super().call_at(when, self._living(callback, context), *args, context=context)

    @staticmethod
    def _living(callback: Any, context: Any) -> Any:
        owner = running.get() if context is None else context.get(running)
        if owner is None:
            return callback

        def call(*args: Any) -> None:
            if not owner.dead:
                callback(*args)

        return call

    def bury_tasks(self, dead: Incarnation) -> None:
        """Drop the pending work of dead supervisors: nothing of it may run or be reported any more."""
        with acting_as(dead):
            for task in self.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _bury(task.get_coro())
            self.tasks.clear()


def _bury(work: Any) -> None:
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        # It was never started, so its arguments are still pending.
        for given in work.cr_frame.f_locals.values():
            if inspect.iscoroutine(given):
                _bury(given)
    with contextlib.suppress(BaseException):
        work.close()
