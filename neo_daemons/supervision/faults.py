"""Internal errors: bugs, and failures that we did not foresee. They say nothing about a daemon.

Each is logged with its traceback to the logger ``neo_daemons``. A supervisor writes that to its standard error, which
is ``supervisor.log`` when it runs in the background.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger("neo_daemons")


def write_to_stderr() -> None:
    """Log internal errors, and the warnings of libraries, to standard error with timestamps. Only for a process that
    does nothing but supervise."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)


def report(what: str, error: BaseException) -> None:
    """Log `error` with its traceback; `what` says where it happened."""
    logger.error("%s: %s: %s", what, type(error).__name__, error, exc_info=error)


def describe(error: BaseException) -> str:
    """Describe an error in one line, with the file that it concerns."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def kind(error: BaseException) -> tuple[str, str, int]:
    """Identify an error by its type and by the file and line that raised it. Its text may differ each time."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error).__name__, "", 0
    return type(error).__name__, traceback.tb_frame.f_code.co_filename, traceback.tb_lineno


def reported(task: asyncio.Task[Any], what: str) -> asyncio.Task[Any]:
    """Log a failure of `task` as soon as it ends, since no caller may ever await it. Returns `task`."""

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            report(what, error)

    task.add_done_callback(ended)
    return task
