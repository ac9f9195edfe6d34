"""Keeps what a failing run leaves in a directory: logs, journal, definitions, status and page."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from neo_daemons.files import write_whole

from .redaction import Redactor
from .remains import Piece, Remains

CONTENTS = "neo-daemons.json"
"""Names the other files. What an earlier run wrote is recognised by it, and replaced."""
PAGE, DEFINITIONS, STATUS, JOURNAL, SUPERVISOR = (
    "page.html",
    "definitions.json",
    "status.json",
    "journal.jsonl",
    "supervisor.log",
)
LOG = re.compile(r"logs/[a-z][a-z0-9_-]*\.log")
MAX_BYTES = 40_000_000
"""Of all files of a run."""


def write(directory: Path, remains: Remains | None, page: str, redactor: Redactor) -> None:
    """Write the artifacts of a run in place of those of an earlier one.

    Raises:
        OSError: they cannot be written, or a file of that name is not one of an earlier run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _remove_earlier(directory)
    files: dict[str, str] = {PAGE: page}
    if remains is not None:
        plain = msgspec.to_builtins
        files[DEFINITIONS] = _json([redactor.structure(plain(each)) for each in remains.definitions])
        files[STATUS] = _json([redactor.structure(plain(each)) for each in remains.daemons])
        files[JOURNAL] = _journal(remains.journal, redactor)
        files[SUPERVISOR] = _text(remains.supervisor_log, redactor)
        files |= {f"logs/{name}.log": _text(piece, redactor) for name, piece in remains.logs.items()}
    left_out = [f"logs/{name}.log" for name in remains.not_read] if remains is not None else []
    chosen: dict[str, bytes] = {}
    room = MAX_BYTES
    for name, text in files.items():
        data = text.encode("utf-8", "replace")
        if len(data) > room:
            left_out.append(name)
        elif data:
            chosen[name] = data
            room -= len(data)
    for name in chosen:
        if (directory / name).exists():
            why = "is not of an earlier run; use another directory"
            raise FileExistsError(errno.EEXIST, f"{name} {why}", str(directory / name))
    # First: what a killed run has written is recognised by the next one.
    write_whole(directory / CONTENTS, _json({"files": [*chosen], "left_out": left_out}).encode())
    for name, data in chosen.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        write_whole(path, data)


def _remove_earlier(directory: Path) -> None:
    """Remove the files of an earlier run, and nothing else: only names that we write."""
    try:
        names = json.loads((directory / CONTENTS).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in map(str, names if isinstance(names, list) else ()):
        path = directory / name
        is_ours = name in (PAGE, DEFINITIONS, STATUS, JOURNAL, SUPERVISOR) or LOG.fullmatch(name)
        if is_ours and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _text(piece: Piece, redactor: Redactor) -> str:
    cut = f"[neo-daemons: the first {piece.left_out} bytes of the run are left out]\n" if piece.left_out else ""
    return cut + redactor.text(piece.data.decode("utf-8", "replace"))


def _journal(piece: Piece, redactor: Redactor) -> str:
    lines = []
    for line in piece.data.split(b"\n"):
        try:
            lines.append(json.dumps(redactor.structure(json.loads(line))))
        except ValueError:
            continue  # cut off, or damaged
    return "".join(f"{line}\n" for line in lines)
