"""The error of a daemon or a supervisor that is not available."""

from __future__ import annotations

import contextlib
from typing import Any

from neo_daemons.control.client import ControlError


class Unavailable(Exception):
    """A daemon or the supervisor is not available; ``str()`` says why, with the end of the log.

    Args:
        missing: a program is not installed, that of the daemon or of one that it waits for.
    """

    def __init__(self, why: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(why)


def says_all(error: Any) -> bool:
    """Return whether pytest leaves our own frames out of the traceback of an error, because its message says all.

    Args:
        error: the `pytest.ExceptionInfo`.
    """
    return bool(error.errisinstance((Unavailable, ControlError, TimeoutError, LookupError)))


def not_available(name: str) -> str:
    """Return how every message about an unavailable daemon begins; reports are searched for it."""
    return f"{name} is not available"


def suppress_unavailable() -> contextlib.suppress:
    """Ignore an unavailable daemon at the end of a test or a run: its next use reports it."""
    return contextlib.suppress(Unavailable, ControlError)
