"""Standard streams, which may be closed, full or nobody's."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def open_closed_streams() -> None:
    """Whoever started us may have closed standard streams. Then the next file that is opened, be it a record, would get
    the number of one, and what is meant for people would go there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w")  # noqa: SIM115


def drop_output() -> None:
    """So that the interpreter's own last flush fails no more."""
    _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(message: str, code: int) -> int:
    """One line on standard error, unless nothing can be written there; `code`."""
    say(f"neo-daemons: {message}")
    return code


def say(text: str) -> None:
    """A text on standard error, unless nothing can be written there."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
