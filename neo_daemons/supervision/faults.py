"""Faults of our own: bugs, and what we did not foresee. They are no verdict on a daemon.

Each goes with its traceback to the logger ``neo_daemons``: a supervisor writes that to its standard error, which is
``supervisor.log`` where it runs in the background.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger("neo_daemons")


def write_to_stderr() -> None:
    """Have faults, and the warnings of libraries, written to standard error with their time. For a process that is a
    supervisor and nothing else."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)


def report(what: str, error: BaseException) -> None:
    """Log `error` with its traceback; `what` says where it happened."""
    logger.error("%s: %s: %s", what, type(error).__name__, error, exc_info=error)


def describe(error: BaseException) -> str:
    """An error in one line, with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def kind(error: BaseException) -> tuple[str, str, int]:
    """What tells one fault from another: the error's type, and the file and line that raised it. Its text may differ
    each time."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__, "", 0
    return type(error).__name__, traceback.tb_frame.f_code.co_filename, traceback.tb_lineno


def reported(task: asyncio.Task[Any], what: str) -> asyncio.Task[Any]:
    """`task`, whose failure is logged as soon as it ends: nobody may ever wait for it."""

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            report(what, error)

    task.add_done_callback(ended)
    return task
