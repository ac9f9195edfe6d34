"""Asking a file for the number that a program keeps in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from neo_daemons.files import read_regular

MAX_BYTES = 100
"""Of a file that holds one number."""
LIMIT = 2**63
"""What SQLite counts up to, and JSON can hold."""
SHOWN = 20
"""Characters of another content that are quoted."""


def read_number(path: Path) -> int | None:
    """The number in a file; None if there is no such file.

    Raises:
        ValueError: it holds something else.
        OSError: it cannot be read.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with contextlib.suppress(ValueError):
        if len(data) <= MAX_BYTES and -LIMIT <= (number := int(data)) < LIMIT:
            return number
    raise ValueError(f"{path} holds {data.decode('utf-8', 'replace').strip()[:SHOWN]!r}")


def is_there(path: Path) -> bool:
    """Whether something has this name, be it a link that leads nowhere.

    Raises:
        OSError: that cannot be seen, as in a directory of another user.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
