"""The standard streams, which may be closed, full or without a reader."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def open_closed_streams() -> None:
    """Open the standard streams that the parent process has closed.

    Otherwise the next file, perhaps a record, would get the descriptor of one, and messages would be written into it.
    """
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
    """Drop pending output, so that the interpreter's own last flush does not fail."""
    _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(message: str, code: int) -> int:
    """Print one line on standard error, if anything can be written there, and return `code`."""
    say(f"neo-daemons: {message}")
    return code


def say(text: str) -> None:
    """Print a text on standard error, if anything can be written there."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr)
