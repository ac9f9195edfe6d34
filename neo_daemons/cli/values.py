"""The values of options: each function returns what a text means, or raises `argparse.ArgumentTypeError`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neo_daemons.control.address import Loopback


def directory(text: str) -> Path:
    """Return the path of a directory."""
    return _path(text, "directory")


def file(text: str) -> Path:
    """Return the path of a file."""
    return _path(text, "file")


def _path(text: str, kind: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError(f"empty value; expected a {kind}")
    return Path(text)


def loopback(text: str) -> Loopback:
    """Return an address to listen at."""
    from neo_daemons.control.address import Loopback

    try:
        return Loopback.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def seconds(text: str) -> float:
    """Return a duration in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}; expected seconds from 0 to 86400")
    return value


def count(text: str) -> int:
    """Return a number of lines or events."""
    if not text.isascii() or not text.isdigit() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"invalid value {text!r}; expected an integer from 0 to 100000")
    return int(text)
