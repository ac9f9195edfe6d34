"""Reads from the supervisor's journal what happened to the daemons during the tests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from neo_daemons.status import Cause, EventName, JournalEntry
from neo_daemons.unpatched import Tail

USABLE = frozenset({EventName.READY, EventName.DEGRADED})
CONDEMNED = frozenset({Cause.PROBE, Cause.RECYCLED})
"""Causes for which the supervisor stops a daemon without a request."""
OUR_FAULTS = frozenset({EventName.INTERNAL_ERROR, EventName.PROBE_UNKNOWN})
"""Errors on the supervisor's side."""


class Incident(Struct, kw_only=True):
    """A daemon died, or its supervisor stopped it, while it was in use."""

    daemon: str
    at: float
    """Seconds since the epoch."""
    what: str
    """How it ended: ``killed by SIGKILL``, or what its probes reported."""
    asked_for: bool
    """Whether a test requested it with a fault."""
    is_tunnel: bool = False
    """Whether this was the tunnel to a daemon that an engine runs."""
    back_after_s: float | None = None
    """Seconds until it was ready again; None until then."""

    @property
    def beginning(self) -> str:
        """The part of the text that is known from the start. It identifies the incident."""
        clock = time.strftime("%H:%M:%S", time.localtime(self.at))
        asked = " (requested by a test)" if self.asked_for else ""
        died = f"the tunnel to {self.daemon} broke" if self.is_tunnel else f"{self.daemon} died"
        return f"{died} at {clock}.{int(self.at % 1 * 1000):03}{asked}: {self.what}"

    def __str__(self) -> str:
        back = "not back yet" if self.back_after_s is None else f"back after {self.back_after_s:.2f} s"
        return f"{self.beginning}; {back}"


class JournalReader:
    """Reads a growing journal and extracts incidents from it.

    Args:
        path: the journal.
        start: the byte to begin at; None: at its end.
        tunnels: daemons of which only tunnels are here.
    """

    def __init__(self, path: Path, start: int | None = None, tunnels: Collection[str] = ()) -> None:
        self._tunnels = tunnels
        self.incidents: list[Incident] = []
        self.starts: dict[str, int] = {}
        """How often each daemon was started since this reader began."""
        self.reaped: list[str] = []
        self.faults: dict[str, str] = {}
        """Errors on the supervisor's side: daemon and event → detail of the first one."""
        self._tail = Tail(path, start)
        self.start = self._tail.position
        self._decoder = msgspec.json.Decoder(JournalEntry)
        self._rest = b""
        self._asked: set[str] = set()
        self._open: dict[str, Incident] = {}

    @property
    def position(self) -> int:
        """The position in the journal. Only compare it for equality: a new journal starts again at zero."""
        return self._tail.position

    def read(self) -> None:
        """Read the new entries. After the first read this needs no new file descriptor."""
        data = self._tail.read()
        if not data:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                self._take(self._decoder.decode(line))

    def close(self) -> None:
        """Close the journal."""
        self._tail.close()

    def open_incidents(self) -> Iterable[Incident]:
        """Return the incidents of daemons that are not ready again."""
        return self._open.values()

    def _take(self, entry: JournalEntry) -> None:
        name = entry.daemon
        if entry.event == EventName.REAPED and entry.detail:
            self.reaped.append(entry.detail)
        if entry.event in OUR_FAULTS:
            self.faults.setdefault(f"{name or 'supervisor'}: {entry.event}", entry.detail or "no detail")
        if name is None:
            return
        match entry.event:
            case EventName.SIGNALLED if entry.cause == Cause.FAULT:
                self._asked.add(name)
            case EventName.SIGNALLED if entry.cause == Cause.REPAIR and entry.state == EventName.READY:
                self._asked.discard(name)  # resumed before it had any effect
            case EventName.RUNNING if entry.cause != Cause.ADOPTED:
                self.starts[name] = self.starts.get(name, 0) + 1
            case EventName.EXIT if entry.state in USABLE:
                self._begin(name, entry)
            case EventName.STOPPING if entry.cause in CONDEMNED:
                self._begin(name, entry)
            case EventName.READY:
                incident = self._open.pop(name, None)
                if incident is not None:
                    incident.back_after_s = round(entry.at - incident.at, 3)
                self._asked.discard(name)

    def _begin(self, name: str, entry: JournalEntry) -> None:
        if name not in self._open:
            what = entry.detail or "exited"
            is_tunnel, asked_for = name in self._tunnels, name in self._asked
            incident = Incident(daemon=name, at=entry.at, what=what, asked_for=asked_for, is_tunnel=is_tunnel)
            self.incidents.append(incident)
            self._open[name] = incident
