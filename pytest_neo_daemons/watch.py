"""Collects what happens to the daemons of the current test: their logs, and their incidents in the journal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from neo_daemons.unpatched import Unpatched, read_at

from .incidents import Incident, JournalReader
from .sessions import Session

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
"""Control sequences of ECMA-48: CSI, OSC, and the short ones."""
MAX_SLICE_BYTES = 65_536
MAX_SLICE_LINES = 200


class Watch:
    """The positions of the logs and the journal, just read, when a test began to use daemons."""

    def __init__(self, journal: JournalReader, logs: dict[str, Path]) -> None:
        self._journal = journal
        self._incidents = [*journal.open_incidents()]
        self._known = len(journal.incidents)
        self._sizes = {name: _size(path) for name, path in logs.items()}

    def incidents(self) -> list[Incident]:
        """Return the incidents since then, and those of daemons that were down then."""
        self._journal.read()
        return [*self._incidents, *self._journal.incidents[self._known :]]

    def slices(self, logs: dict[str, Path]) -> Iterable[tuple[str, str]]:
        """Yield what each daemon of `logs` has written since."""
        for name, path in logs.items():
            text = _since(path, self._sizes.get(name, 0))
            if text:
                yield name, text


WATCH = pytest.StashKey[Watch]()


class Watcher:
    """Begins a `Watch` when a test first uses a daemon. Most tests use none.

    Args:
        session: the session of the daemons.
        journal: the journal of that session.
    """

    def __init__(self, session: Session, journal: JournalReader) -> None:
        self.journal = journal
        self.logs = {name: session.state_dir.daemon_log(name) for name in session.names}
        """Daemon → its log, including the isolated daemons of the current test."""
        self._item: pytest.Item | None = None
        """The current test."""
        self._seen_ready: dict[str, int] = {}
        """Daemon → the position in the journal when it was last seen to be ready."""

    def begin_test(self, item: pytest.Item) -> None:
        """Make this the current test."""
        self._item = item
        if WATCH in item.stash:  # it is being rerun
            del item.stash[WATCH]

    def note_use(self) -> None:
        """Begin a watch for the current test, which uses a daemon, unless it has one."""
        if self._item is not None and WATCH not in self._item.stash:
            self.journal.read()
            self._item.stash[WATCH] = Watch(self.journal, self.logs)

    def has_news(self, name: str) -> bool:
        """Return whether anything has happened since a daemon was last seen to be ready."""
        return self._seen_ready.get(name) != self.journal.position

    def seen_ready(self, name: str) -> None:
        """Note that a daemon is ready at the current position of the journal."""
        self._seen_ready[name] = self.journal.position


def _size(path: Path) -> int:
    try:
        return Unpatched.stat(str(path)).st_size
    except OSError:
        return 0


def _since(path: Path, start: int) -> str:
    """Return the end of a log after `start`, or of the whole log if it has been rotated since."""
    size = _size(path)
    start = start if start <= size else 0
    try:
        descriptor = Unpatched.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = read_at(descriptor, max(start, size - MAX_SLICE_BYTES), MAX_SLICE_BYTES)
        finally:
            Unpatched.close(descriptor)
    except OSError:
        return ""
    lines = data.decode("utf-8", "replace").splitlines()
    left_out = len(lines) - MAX_SLICE_LINES
    if left_out > 0:
        lines = [f"… {left_out} lines left out", *lines[left_out:]]
    return "\n".join(_printable(line) for line in lines)


def _printable(line: str) -> str:
    """Return a line without colours, cursor movements and characters that are invalid in XML."""
    line = ESCAPE.sub("", line)
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in line)
