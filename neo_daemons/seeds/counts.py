"""Counts what is in the data directory of a daemon that does not run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from neo_daemons.checks.sqlite import read_number

from .manifest import File

COUNTING_S = 60.0
CHROMA = "chroma.sqlite3"
COLLECTIONS = "SELECT count(*) FROM collections"
RECORDS = "SELECT count(*) FROM embeddings e JOIN segments s ON s.id = e.segment_id AND s.scope = 'METADATA'"
"""chroma has what it acknowledged in its queue as well, and moves it here at once."""
OWN = ("collections", "records")
"""Names of counts in the daemon's own terms."""
FALL = 0.5
"""A count below this part of the count before is a fall that must be meant."""


def at_rest(directory: Path, files: Mapping[str, File]) -> dict[str, int]:
    """Count what a directory contains: in the daemon's own terms, or files and bytes.

    Args:
        directory: a copy that nothing uses: SQLite may write files of its own into it.
        files: those in it.
    """
    return in_own_terms(directory) or {"files": len(files), "bytes": sum(file.size for file in files.values())}


def in_own_terms(directory: Path) -> dict[str, int]:
    """Count the collections and records of chroma, which may be running; nothing if it is the data of another program,
    or cannot be read now."""
    deadline = time.monotonic() + COUNTING_S
    try:
        return {
            "collections": read_number(directory / CHROMA, COLLECTIONS, deadline),
            "records": read_number(directory / CHROMA, RECORDS, deadline),
        }
    except (OSError, sqlite3.Error, sqlite3.Warning, ValueError, OverflowError):
        return {}  # there is no such file, or it is of a version with other tables


def fallen(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """Return the names of counts that have fallen by more than half. Files and bytes are not compared: compaction and
    rotation make them fall, too."""
    return [name for name in OWN if name in before and name in now and now[name] < before[name] * FALL]


def text(counts: Mapping[str, int]) -> str:
    """Return counts for people: ``3 collections, 1,200 records``."""
    return ", ".join(f"{number:,} {name}" for name, number in counts.items()) or "nothing counted"
