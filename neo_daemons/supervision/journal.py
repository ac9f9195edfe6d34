"""The journal of events: an append-only file of one JSON object per line, with its latest entries in memory.

A line is written with one write(2) in append mode, so that a crash can damage only the last one. The reader skips
damaged lines.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from neo_daemons.status import Cause, EventName, JournalEntry

from .broadcast import Broadcast

REMEMBERED = 2000
"""Entries kept in memory, for `events` and `why`."""
MAX_BYTES = 5_000_000
"""Above this the file is moved to ``journal.1.jsonl`` when a supervisor starts, replacing the one before."""


def read(path: Path) -> tuple[list[JournalEntry], int]:
    """Return the latest `REMEMBERED` entries of a journal, and the number of damaged lines."""
    entries: deque[JournalEntry] = deque(maxlen=REMEMBERED)
    damaged = 0
    decoder = msgspec.json.Decoder(JournalEntry)
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    entries.append(decoder.decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    damaged += bool(line.strip())
    except FileNotFoundError:
        pass
    return list(entries), damaged


class Journal:
    """The journal of one supervisor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: str | None = None
        """Why the file cannot be written, if it cannot."""
        self._changed = Broadcast()
        try:
            if path.exists() and path.stat().st_size > MAX_BYTES:
                path.replace(path.with_name("journal.1.jsonl"))
            entries, damaged = read(path)
        except OSError as error:
            entries, damaged = [], 0
            self.fault = f"cannot read the journal {path}: {error.strerror}"
        self._entries = deque(entries, maxlen=REMEMBERED)
        self._count = len(self._entries)
        self._descriptor = -1
        self._file: os.stat_result | None = None
        self._stays = False
        self._cut = _ends_within_a_line(path)
        if damaged:
            self.add(EventName.JOURNAL_DAMAGED, detail=f"skipped {damaged} damaged lines")

    def add(
        self,
        event: EventName,
        *,
        daemon: str | None = None,
        state: str | None = None,
        pid: int | None = None,
        detail: str | None = None,
        cause: Cause | None = None,
    ) -> None:
        """Add an entry. If the file cannot be written, `fault` says so, and the next entry tries again."""
        entry = JournalEntry(
            at=time.time(), event=event, daemon=daemon, state=state, pid=pid, detail=detail, cause=cause
        )
        self._entries.append(entry)
        self._count += 1
        self._write(msgspec.json.encode(entry) + b"\n")
        self._changed.notify()

    def stay(self) -> None:
        """Never open another file: the one at the path now belongs to another supervisor."""
        self._stays = True

    def _is_deleted(self) -> bool:
        """Whether the open file was deleted or moved, or has got another number."""
        with contextlib.suppress(OSError):
            return self._file is None or not os.path.samestat(os.stat(self.path), self._file)
        return True

    def _write(self, line: bytes) -> None:
        if self._stays and self._descriptor < 0:
            return
        if self._descriptor >= 0 and not self._stays and self._is_deleted():
            self.close()
            self._cut = _ends_within_a_line(self.path)
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(
                    self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
                self._file = os.fstat(self._descriptor)
            # A line that was cut off, by a crash or a full disk, must not swallow this one.
            prefix = b"\n" if self._cut else b""
            written = os.write(self._descriptor, prefix + line)
            self._cut = written < len(prefix) + len(line)
            self.fault = "the journal is incomplete: the disk is full" if self._cut else None
        except OSError as error:
            self.fault = f"cannot write the journal {self.path}: {error.strerror}"

    def latest(self, count: int, daemon: str | None = None) -> list[JournalEntry]:
        """Return the last `count` entries, of one daemon or of all."""
        found = [entry for entry in self._entries if daemon is None or entry.daemon == daemon]
        return found[-count:] if count else []

    async def follow(self, count: int, daemon: str | None = None) -> AsyncIterator[JournalEntry]:
        """Yield the last `count` entries, then each new one. A follower that is too slow misses entries that memory no
        longer holds."""
        seen = self._count
        for entry in self.latest(count, daemon):
            yield entry
        while True:
            while seen < self._count:
                missed = max(self._count - seen - len(self._entries), 0)
                entry = self._entries[len(self._entries) - (self._count - seen - missed)]
                seen += missed + 1
                if daemon is None or entry.daemon == daemon:
                    yield entry
            await self._changed.wait()

    def close(self) -> None:
        """Close the file; `add` opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _ends_within_a_line(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False  # it is missing or empty
