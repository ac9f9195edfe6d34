"""Reads a number from a SQLite database, without modifying it."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from pathlib import Path

from .files import LIMIT

LOCKED_S = 0.1
"""How long to wait for a writer's lock."""
FAULTS = (sqlite3.Error, sqlite3.Warning)
"""What SQLite raises. The class of its warnings is not one of its errors."""
STEPS = 10_000
"""Instructions of SQLite's machine between two checks of the clock; they take well below a millisecond."""


def read_number(database: Path, query: str, deadline: float, *, without_writing: bool = False) -> int:
    """Return the query's single value; 0 if it has none. Gives up at `deadline` (monotonic seconds).

    Even in read-only mode, SQLite creates the files of a write-ahead log or writes to them. `without_writing` opens the
    log's index read-only, too; it exists as long as another process has the database open. Only SQLite opens the file:
    closing any other descriptor of it would drop the locks that this process has on it.

    Raises:
        OSError: the database does not exist, or is not a regular file.
        sqlite3.Error, sqlite3.Warning: it is not such a database, or cannot be read, or not without writing.
        ValueError, OverflowError: the value is not an integer.
    """
    if not stat.S_ISREG(os.stat(database).st_mode):  # reading a pipe would block
        raise OSError(errno.EINVAL, "not a regular file", str(database))
    options = "mode=ro"
    if without_writing:
        if not beside(database, "-shm").exists():
            raise sqlite3.OperationalError("no process has it open, and reading it now would modify it")
        options += "&readonly_shm=1"
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?{options}", uri=True, timeout=LOCKED_S)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        row = connection.execute(query).fetchone()
    finally:
        connection.close()
    number = int(row[0] or 0) if row else 0
    if not -LIMIT <= number < LIMIT:
        raise OverflowError(f"the query's value is {number:.0e}")
    return number


def beside(database: Path, suffix: str) -> Path:
    """Return a file that SQLite keeps next to the database: its write-ahead log (``-wal``) or the log's index
    (``-shm``)."""
    return database.with_name(database.name + suffix)
