"""What the present test can see of its daemons: their logs, and what the journal says happened to them meanwhile."""

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
"""Control sequences, ECMA-48: CSI, OSC, and the short ones."""
MAX_SLICE_BYTES = 65_536
MAX_SLICE_LINES = 200


class Watch:
    """Where the logs and the journal, which has just been read, were when a test began to use daemons."""

    def __init__(self, journal: JournalReader, logs: dict[str, Path]) -> None:
        self._journal = journal
        self._incidents = [*journal.open_incidents()]
        self._known = len(journal.incidents)
        self._sizes = {name: _size(path) for name, path in logs.items()}

    def incidents(self) -> list[Incident]:
        """What happened since then, and what was down then."""
        self._journal.read()
        return [*self._incidents, *self._journal.incidents[self._known :]]

    def slices(self, logs: dict[str, Path]) -> Iterable[tuple[str, str]]:
        """What each daemon of `logs` has written since."""
        for name, path in logs.items():
            text = _since(path, self._sizes.get(name, 0))
            if text:
                yield name, text


WATCH = pytest.StashKey[Watch]()


class Watcher:
    """Begins a `Watch` as soon as a test uses a daemon: most use none.

    Args:
        session: of the daemons.
        journal: what has happened to them.
    """

    def __init__(self, session: Session, journal: JournalReader) -> None:
        self.journal = journal
        self.logs = {name: session.state_dir.daemon_log(name) for name in session.names}
        """Daemon → its log; also of those of the present test's own."""
        self._item: pytest.Item | None = None
        """The present test."""
        self._seen_ready: dict[str, int] = {}
        """Where the journal was when each daemon was last seen to be ready."""

    def begin_test(self, item: pytest.Item) -> None:
        """Make this the present test."""
        self._item = item
        if WATCH in item.stash:  # it is run again
            del item.stash[WATCH]

    def note_use(self) -> None:
        """Begin a watch for the present test, which uses a daemon, unless it has one."""
        if self._item is not None and WATCH not in self._item.stash:
            self.journal.read()
            self._item.stash[WATCH] = Watch(self.journal, self.logs)

    def has_news(self, name: str) -> bool:
        """Whether anything has happened since a daemon was last seen to be ready."""
        return self._seen_ready.get(name) != self.journal.position

    def seen_ready(self, name: str) -> None:
        """Note that a daemon is ready, as far as the journal has been read."""
        self._seen_ready[name] = self.journal.position


def _size(path: Path) -> int:
    try:
        return Unpatched.stat(str(path)).st_size
    except OSError:
        return 0


def _since(path: Path, start: int) -> str:
    """The end of a log from `start` on; of all of it, if it was rotated meanwhile."""
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
    """A line without colours, that cannot move the cursor, or be no XML."""
    line = ESCAPE.sub("", line)
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in line)
