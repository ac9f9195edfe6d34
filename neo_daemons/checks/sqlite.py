"""Asking a SQLite database for a number, for programs that only read it."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from pathlib import Path

from .files import LIMIT

LOCKED_S = 0.1
"""How long a writer's lock is waited for."""
STEPS = 10_000
"""Instructions of SQLite's machine, well below a millisecond, between two looks at the clock."""


def read_number(database: Path, query: str, deadline: float, *, without_writing: bool = False) -> int:
    """The query's single value; 0 if it has none. Given up at `deadline` (monotonic seconds).

    Opened read-only, SQLite still makes the files of a write-ahead log, or writes to them. `without_writing` reads over
    the log's index, itself read-only, which is there for as long as another process has the database open. And the file
    is opened by SQLite only: closing any other descriptor of it would drop the locks that this process has on it.

    Raises:
        OSError: the database is not there, or no regular file.
        sqlite3.Error, sqlite3.Warning: it is no such database, or cannot be read, or not without writing.
        ValueError, OverflowError: the value is no whole number.
    """
    if not stat.S_ISREG(os.stat(database).st_mode):  # a pipe would keep us waiting
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
    """A file that SQLite keeps beside the database: its write-ahead log (``-wal``), or the log's index (``-shm``)."""
    return database.with_name(database.name + suffix)
