"""Reads a part of a log file, and names places in it by cursors that notice a rotation."""

from __future__ import annotations

import io
import zlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

READ_BYTES = 4_000_000
"""The most that one call reads."""
PRINT_BYTES = 64
"""A cursor holds a checksum of this many bytes before its place: rotation moves the content of the file."""


class Window(NamedTuple):
    """Lines of a log, and the cursors to what is around them."""

    lines: list[str]
    newer: str
    older: str | None
    remark: str | None


class BadCursor(ValueError):
    """The text is no cursor."""


def read(path: Path, count: int, *, contains: str | None, cursor: str | None, max_bytes: int) -> Window:
    """Read at most `count` lines and `max_bytes` of a log: its end, or what a cursor names.

    Raises:
        BadCursor: see there.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        newest = _line_start(file, end)
        direction, place, remark = "before", newest, None
        if cursor is not None:
            direction, place, checksum = _parse(cursor)
            if place > end or _checksum(file, place) != checksum:
                direction, place = "before", newest
                remark = "the log was rotated since that cursor; these are the latest lines"
        if direction == "after":
            return _after(file, place, newest, count, contains, max_bytes)
        return _before(file, place, count, contains, max_bytes)._replace(remark=remark)


def _after(file: io.BufferedReader, place: int, end: int, count: int, contains: str | None, max_bytes: int) -> Window:
    """Read forward from a place."""
    file.seek(place)
    lines: list[str] = []
    position, used, limit = place, 0, min(end, place + READ_BYTES)
    while position < limit and len(lines) < count:
        raw = file.readline(limit - position)
        if _matches(raw, contains):
            used += len(raw)
            if lines and used > max_bytes:
                break
            lines.append(_text(raw))
        position += len(raw)
    remark = "there is more: pass `newer` as the cursor" if position < end else None
    return Window(lines, _cursor(file, "after", position), _cursor(file, "before", place) if place else None, remark)


def _before(file: io.BufferedReader, place: int, count: int, contains: str | None, max_bytes: int) -> Window:
    """Read what ends at a place."""
    start = max(0, place - READ_BYTES)
    file.seek(start)
    content = file.read(place - start)
    position = start
    if start:
        first = content.find(b"\n") + 1
        content, position = content[first:], start + first
    kept: deque[tuple[int, bytes]] = deque(maxlen=count)
    begins = position
    for raw in io.BytesIO(content):
        if _matches(raw, contains):
            kept.append((begins, raw))
        begins += len(raw)
    used, lines = 0, deque[str]()
    for _, raw in reversed(kept):
        used += len(raw)
        if lines and used > max_bytes:
            break
        lines.appendleft(_text(raw))
    all_shown = len(kept) < count and len(lines) == len(kept)
    oldest = position if all_shown else kept[len(kept) - len(lines)][0]
    return Window(list(lines), _cursor(file, "after", place), _cursor(file, "before", oldest) if oldest else None, None)


def _line_start(file: io.BufferedReader, end: int) -> int:
    """Return where the last complete line ends: a line may be in the middle of being written."""
    start = max(0, end - 65_536)
    file.seek(start)
    found = file.read(end - start).rfind(b"\n")
    return end if found < 0 else start + found + 1


def _matches(raw: bytes, contains: str | None) -> bool:
    return contains is None or contains.casefold() in raw.decode("utf-8", "replace").casefold()


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\r\n").decode("utf-8", "replace")


def _cursor(file: io.BufferedReader, direction: str, place: int) -> str:
    return f"{direction}-{place}-{_checksum(file, place):08x}"


def _parse(cursor: str) -> tuple[str, int, int]:
    direction, _, rest = cursor.partition("-")
    place, _, checksum = rest.partition("-")
    if direction not in ("after", "before") or not place.isascii() or not place.isdigit() or len(place) > 15:
        raise BadCursor(f"unknown cursor {cursor[:80]!r}; pass `older` or `newer` of an earlier answer, or none")
    try:
        return direction, int(place), int(checksum, 16)
    except ValueError:
        raise BadCursor(f"unknown cursor {cursor[:80]!r}; pass `older` or `newer` of an earlier answer") from None


def _checksum(file: io.BufferedReader, place: int) -> int:
    file.seek(max(0, place - PRINT_BYTES))
    return zlib.crc32(file.read(min(place, PRINT_BYTES)))
