"""Cuts out of daemons' logs what they wrote during a test, for people to read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from neo_daemons.unpatched import Unpatched, read_at

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
"""Control sequences of ECMA-48: CSI, OSC, and the short ones."""
MAX_SLICE_BYTES = 65_536
MAX_SLICE_LINES = 200
HEAD_BYTES = 16_384
"""How much of the beginning of a log is compared with what a restarted daemon writes."""


class Slice(NamedTuple):
    """The end of what a daemon wrote during a test."""

    daemon: str
    lines: list[str]
    left_out: int
    """The number of lines before these."""

    def text(self, limit: int) -> str:
        """Return at most `limit` lines, the last ones, and how many are left out before them."""
        lines = self.lines[-limit:] if limit else []
        left_out = self.left_out + len(self.lines) - len(lines)
        return "\n".join([*([f"… {left_out} lines left out"] if left_out and lines else []), *lines])


def size(path: Path) -> int:
    """Return the size of a file in bytes; 0 if it cannot be read."""
    try:
        return Unpatched.stat(str(path)).st_size
    except OSError:
        return 0


def cut(daemon: str, path: Path, start: int, *, restarted: bool) -> Slice | None:
    """Return the end of a log after byte `start`, or of the whole log if it has been rotated since; None if there is
    nothing.

    Args:
        restarted: the daemon was started again after `start`, so what it writes at each start is left out.
    """
    end = size(path)
    start = start if start <= end else 0
    lines = printable_lines(read(path, max(start, end - MAX_SLICE_BYTES), MAX_SLICE_BYTES))
    if restarted and start:
        lines = without_start(lines, printable_lines(read(path, 0, min(HEAD_BYTES, start))))
    if not any(line.strip() for line in lines):
        return None
    return Slice(daemon, lines[-MAX_SLICE_LINES:], max(len(lines) - MAX_SLICE_LINES, 0))


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


def without_start(lines: Sequence[str], head: Sequence[str]) -> list[str]:
    """Replace by one line what a restarted daemon repeats of the beginning of its log: its start banner.

    Args:
        head: the first lines of the log. Numbers in them may differ: pids, ports, times.
    """
    head_shapes = [_shape(line) for line in head]
    first = next((number for number, shape in enumerate(head_shapes) if shape), None)
    if first is None:
        return [*lines]
    kept, position = list[str](), 0
    shapes = [_shape(line) for line in lines]
    while position < len(lines):
        length = _common(shapes[position:], head_shapes[first:])
        if length:
            while kept and not kept[-1].strip():  # empty lines in front of the banner
                kept.pop()
            kept.append(f"… it started again: {length} lines as at its first start left out")
            position += length
        else:
            kept.append(lines[position])
            position += 1
    return kept


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", line).strip()


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))


def printable_lines(data: bytes) -> list[str]:
    """Return the lines of a log without colours, cursor movements and characters that are invalid in XML."""
    return [_printable(line) for line in data.decode("utf-8", "replace").splitlines()]


def _printable(line: str) -> str:
    line = ESCAPE.sub("", line)
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in line)
