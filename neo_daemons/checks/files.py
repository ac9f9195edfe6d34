"""Reads the number that a program keeps in a file."""

from __future__ import annotations

import contextlib
from pathlib import Path

from neo_daemons.files import read_regular

MAX_BYTES = 100
"""The maximum size of a file that contains one number."""
LIMIT = 2**63
"""The limit of SQLite's integers."""
SHOWN = 20
"""The number of characters of other content that are quoted."""


def read_number(path: Path) -> int | None:
    """Return the number in a file; None if the file does not exist.

    Raises:
        ValueError: it contains something else.
        OSError: it cannot be read.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with contextlib.suppress(ValueError):
        if len(data) <= MAX_BYTES and -LIMIT <= (number := int(data)) < LIMIT:
            return number
    raise ValueError(f"{path} contains {data.decode('utf-8', 'replace').strip()[:SHOWN]!r}")


def is_there(path: Path) -> bool:
    """Return whether a file of this name exists, even a broken symbolic link.

    Raises:
        OSError: that cannot be checked, e.g. in a directory of another user.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
