"""Collects what happens to the daemons of the current test: their logs, and their incidents in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from . import log_slices
from .incidents import Incident, JournalReader
from .log_slices import Slice
from .sessions import Session


class Watch:
    """The positions of the logs and the journal, just read, when a test began to use daemons."""

    def __init__(self, journal: JournalReader, logs: Mapping[str, Path]) -> None:
        self._journal = journal
        self._incidents = [*journal.open_incidents()]
        self._known = len(journal.incidents)
        self._begins = {name: log_slices.size(path) for name, path in logs.items()}
        """Daemon → the byte of its log at which the test began."""
        self._shown = dict(self._begins)
        """Daemon → the byte up to which its log has been shown."""
        self._starts = dict(journal.starts)
        self._told: set[str] = set()
        self.latest: list[Slice] = []
        """The slices of the latest report."""

    def incidents(self) -> list[Incident]:
        """Return the incidents since then, and those of daemons that were down then."""
        self._journal.read()
        return [*self._incidents, *self._journal.incidents[self._known :]]

    def leave_out_start(self, started: str, logs: Mapping[str, Path]) -> None:
        """Leave out of the slices what a daemon wrote until now, when it became ready, and so of the daemons that were
        started for it."""
        self._journal.read()
        for name, path in logs.items():
            if name == started or not (self._begins.get(name) or self._starts.get(name)):
                self._begins[name] = self._shown[name] = log_slices.size(path)
                self._starts[name] = self._journal.starts.get(name, 0)

    def take_slices(self, logs: Mapping[str, Path]) -> list[Slice]:
        """Return what each daemon of `logs` has written since the previous call."""
        self.latest = []
        for name, path in logs.items():
            starts = self._journal.starts.get(name, 0) - self._starts.get(name, 0)
            cut = log_slices.cut(name, path, self._shown.get(name, 0), starts=starts)
            self._shown[name] = cut.end
            self._starts[name] = self._starts.get(name, 0) + cut.starts
            if cut.slice is not None:
                self.latest.append(cut.slice)
        return self.latest

    def spans(self, logs: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
        """Return the bytes of each log that were written during the test: begin and end."""
        found = {name: (self._begins.get(name, 0), log_slices.size(path)) for name, path in logs.items()}
        return {name: (begin, end) for name, (begin, end) in found.items() if begin < end}

    def is_news(self, text: str) -> bool:
        """Return whether this has not been said in a report of the test yet."""
        news = text not in self._told
        self._told.add(text)
        return news


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

    def note_start(self, name: str) -> None:
        """Note that a daemon has become ready for the current test: the output of its start is not that of the test."""
        if self._item is not None and WATCH in self._item.stash:
            self._item.stash[WATCH].leave_out_start(name, self.logs)

    def has_news(self, name: str) -> bool:
        """Return whether anything has happened since a daemon was last seen to be ready."""
        return self._seen_ready.get(name) != self.journal.position

    def seen_ready(self, name: str) -> None:
        """Note that a daemon is ready at the current position of the journal."""
        self._seen_ready[name] = self.journal.position
