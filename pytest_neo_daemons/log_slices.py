"""Cuts out of daemons' logs what they wrote during a test, for people to read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from neo_daemons.unpatched import Unpatched, read_at

ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])"
"""Control sequences of ECMA-48: CSI, OSC, and the short ones. Most runs need it never, so it is not compiled here."""
MAX_SLICE_BYTES = 65_536
MAX_SLICE_LINES = 200
HEAD_BYTES = 16_384
"""How much of the beginning of a log is compared with what a restarted daemon writes."""


class Slice(Struct, frozen=True):
    """The end of what a daemon wrote during a test."""

    daemon: str
    lines: list[str]
    left_out: int
    """The number of lines before these."""
    more: bool = False
    """Whether there are more before those, which were not counted."""

    def text(self, limit: int) -> str:
        """Return at most `limit` lines, the last ones, and how many are left out before them."""
        lines = self.lines[-limit:] if limit else []
        left_out = self.left_out + len(self.lines) - len(lines)
        if not lines or not (left_out or self.more):
            return "\n".join(lines)
        return "\n".join([f"… {'more than ' if self.more else ''}{_counted(left_out)} left out", *lines])


def _counted(lines: int) -> str:
    return f"{lines} {'line' if lines == 1 else 'lines'}"


class Cut(Struct, frozen=True):
    """What was cut out of a log."""

    slice: Slice | None
    """None: the daemon wrote nothing."""
    end: int
    """The byte up to which the log was read."""
    starts: int
    """How often it was recognised that the daemon started again."""


def size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it cannot be read."""
    try:
        return Unpatched.stat(str(path)).st_size
    except OSError:
        return 0


def cut(daemon: str, path: Path, start: int, *, starts: int) -> Cut:
    """Cut out the end of a log after byte `start`, or of the whole log if it has been rotated since.

    Args:
        starts: how often the daemon was started after `start`. What it writes at each start is left out.
    """
    end = size(path)
    start = start if start <= end else 0
    begin = max(start, end - MAX_SLICE_BYTES)
    lines = printable_lines(read(path, begin, end - begin))
    if begin > start:
        del lines[:1]  # its beginning is missing
    found = 0
    if starts and start:
        lines, found = without_starts(lines, printable_lines(read(path, 0, min(HEAD_BYTES, start))), starts)
    if not any(line.strip() for line in lines):
        return Cut(None, end, found)
    left_out = max(len(lines) - MAX_SLICE_LINES, 0)
    return Cut(Slice(daemon, lines[-MAX_SLICE_LINES:], left_out, begin > start), end, found)


def read(path: Path, start: int, limit: int) -> bytes:
    """Return up to `limit` bytes of a file from byte `start` on; none if it cannot be read."""
    try:
        descriptor = Unpatched.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_at(descriptor, start, limit)
        finally:
            Unpatched.close(descriptor)
    except OSError:
        return b""


def without_starts(lines: Sequence[str], head: Sequence[str], starts: int) -> tuple[list[str], int]:
    """Replace by one line each what a restarted daemon repeats of the beginning of its log: its start banner. Return
    how many were found, too.

    Args:
        head: the first lines of the log. Numbers in them may differ: pids, ports, times.
        starts: how many to look for at most.
    """
    shapes, banner = [_shape(line) for line in lines], [_shape(line) for line in head]
    banner = banner[next((number for number, shape in enumerate(banner) if shape), len(banner)) :]
    # A single line that is alike may be an ordinary one, unless there is no more.
    shortest = min(2, len(banner))
    kept, position, found = list[str](), 0, 0
    while position < len(lines):
        length = _common(shapes, position, banner) if found < starts and banner else 0
        if length >= max(shortest, 1):
            while kept and not kept[-1].strip():  # empty lines in front of the banner
                kept.pop()
            kept.append(f"… it started again: {_counted(length)} as at its first start left out")
            position, found = position + length, found + 1
        else:
            kept.append(lines[position])
            position += 1
    return kept, found


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", line).strip()


def _common(shapes: Sequence[str], position: int, banner: Sequence[str]) -> int:
    """Return how many lines from a position on are as in the banner."""
    length = 0
    while length < len(banner) and position + length < len(shapes) and shapes[position + length] == banner[length]:
        length += 1
    return length


def printable_lines(data: bytes) -> list[str]:
    """Return the lines of a log without colours, cursor movements and characters that are invalid in XML."""
    return [_printable(line) for line in data.decode("utf-8", "replace").splitlines()]


def _printable(line: str) -> str:
    line = re.sub(ESCAPE, "", line)
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in line)
