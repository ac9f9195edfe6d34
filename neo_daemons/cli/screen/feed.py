"""What the view shows, as the supervisor tells it: asked for in threads, which outlive no answer that hangs.

One request a second tells of all daemons. The journal and the log of the selected daemon are followed, so that nothing
is asked for that has not changed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from neo_daemons import threads
from neo_daemons.control.api import OrderName
from neo_daemons.control.client import Client, ControlError
from neo_daemons.control.stream import Stream
from neo_daemons.status import Explanation, JournalEntry, Status

from ..display import clean

POLL_S = 1.0
SOONEST_S = 0.2
"""The shortest time between two requests: after an event the next one comes early, unless there are very many."""
RETRY_S = 1.0
REMEMBERED_EVENTS = 500
REMEMBERED_LINES = 1000
FIRST_LINES = 200
LONGEST_LINE = 1000
"""Longer lines of a log are cut, in characters."""


class LogTail:
    """The last lines of a followed log, for one reader.

    Args:
        name: the daemon.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.over = threading.Event()
        self.stream: Stream[str] | None = None
        self._lock = threading.Lock()
        self._lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._rest = ""
        self._begins = True

    def begin(self) -> None:
        """Forget everything: what follows is the log from its last lines on."""
        with self._lock:
            self._lines.clear()
            self._rest, self._begins = "", True

    def add(self, text: str) -> None:
        """Take in a piece of the log. A line is shown once it is complete."""
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[-LONGEST_LINE:]
        with self._lock:
            self._lines.extend(shown(line) for line in lines[-REMEMBERED_LINES:])

    def take(self) -> tuple[bool, list[str]]:
        """Return whether the log begins anew, and the lines since the last call."""
        with self._lock:
            taken = self._begins, list(self._lines)
            self._begins = False
            self._lines.clear()
        return taken


def shown(line: str) -> str:
    """Return a line of a log as it may be shown: without control characters, and not endless. Of what a progress bar
    has overwritten the last state is shown."""
    line = line.rstrip("\r").rpartition("\r")[2]
    return clean(line[:LONGEST_LINE]).expandtabs() + ("…" if len(line) > LONGEST_LINE else "")


class Feed:
    """Asks the supervisor, and keeps the latest answers.

    Args:
        client: how to reach it.
        changed: called in a thread of the feed when there is something new.
    """

    def __init__(self, client: Client, changed: Callable[[], None]) -> None:
        self.status: Status | None = None
        """The latest answer; kept while the supervisor is gone."""
        self.seen_at = 0.0
        """When that came; seconds since the epoch."""
        self.problem: str | None = None
        """Why there is no answer now, if there is none."""
        self.event_count = 0
        """How many events came, to see that there are new ones."""
        self.explanation: Explanation | None = None
        self.unexplained: str | None = None
        """Why the latest question "why?" was not answered."""
        self.log: LogTail | None = None
        self.notices: deque[tuple[str, bool]] = deque()
        """What became of orders, and whether that is an error."""
        self._client = client
        self._changed = changed
        self._lock = threading.Lock()
        self._events: deque[JournalEntry] = deque(maxlen=REMEMBERED_EVENTS)
        self._stopped = threading.Event()
        self._due = threading.Event()
        self._connected = threading.Event()
        self._following: Stream[JournalEntry] | None = None

    def start(self) -> None:
        """Begin to ask."""
        threads.start(self._poll, "status")
        threads.start(self._follow_events, "events")

    def stop(self) -> None:
        """Ask no more. Does not wait for what is under way."""
        self._stopped.set()
        self._due.set()
        self._connected.set()
        if self._following is not None:
            self._following.give_up()
        self.select(None)

    # All daemons

    def _poll(self) -> None:
        while not self._stopped.is_set():
            try:
                self.status = self._client.status()
                self.seen_at = time.time()
                self.problem = None
                self._connected.set()
            except ControlError as error:
                self.problem = str(error)
                self._connected.clear()
            self._changed()
            self._stopped.wait(SOONEST_S)
            self._due.wait(POLL_S - SOONEST_S)
            self._due.clear()

    def _follow_events(self) -> None:
        while not self._stopped.is_set():
            self._connected.wait()
            try:
                self._following = stream = self._client.follow_events(REMEMBERED_EVENTS)
                first = True
                for entry in stream:
                    with self._lock:
                        if first:
                            self._events.clear()
                        self._events.append(entry)
                    first = False
                    self.event_count += 1
                    self._due.set()
            except ControlError:
                pass  # the next request for the status says why
            self._due.set()
            self._stopped.wait(RETRY_S)

    def latest_events(self) -> list[JournalEntry]:
        """Return the latest events of all daemons, the oldest first."""
        with self._lock:
            return list(self._events)

    # The selected daemon

    def select(self, name: str | None) -> None:
        """Follow the log of this daemon, and no other."""
        if self.log is not None:
            self.log.over.set()
            if self.log.stream is not None:
                self.log.stream.give_up()
        self.log = None
        if name is not None:
            self.log = tail = LogTail(name)
            threads.start(lambda: self._follow_log(tail), f"log of {name}")

    def _follow_log(self, tail: LogTail) -> None:
        while not tail.over.is_set():
            if not self._connected.wait(RETRY_S):
                continue
            try:
                tail.stream = self._client.logs(tail.name, FIRST_LINES, follow=True)
                if tail.over.is_set():
                    return
                tail.begin()
                for text in tail.stream:
                    tail.add(text)
                    self._changed()
            except ControlError:
                pass  # it has no log yet, or there is no supervisor
            tail.over.wait(RETRY_S)

    def explain(self, name: str) -> None:
        """Ask why a daemon is in its state; `explanation` will have the answer."""

        def ask() -> None:
            try:
                self.explanation, self.unexplained = self._client.why(name), None
            except ControlError as error:
                self.unexplained = str(error)
            self._changed()

        threads.start(ask, f"why {name}")

    def order(self, name: str, order: OrderName) -> None:
        """Give an order; `notices` will say whether it was accepted."""

        def ask() -> None:
            try:
                daemon = self._client.order(name, order)
                self.notices.append((f"{order} {name}: {daemon.state}", False))
            except ControlError as error:
                self.notices.append((str(error), True))
            self._due.set()
            self._changed()

        threads.start(ask, f"{order} {name}")
