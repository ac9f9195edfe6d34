"""Turns what was recorded of a run into the data of its page. Times are seconds since the run began."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from neo_daemons.status import Cause, DaemonStatus, EventName, JournalEntry

from ..log_slices import printable_lines
from .recording import RunRecord, TestRecord
from .redaction import Redactor
from .remains import Piece, Remains

SUPERVISOR = "supervisor"
INSTANCE = re.compile(r"(.+)-(?:gw\d+|main)-[0-9a-f]{8}\Z")
"""The name of a daemon of one test; see `isolation`."""
QUIET = frozenset({"idle", "stopped", "held", "external", "done"})
"""States in which a daemon is not meant to run."""
BAD = frozenset({EventName.INTERNAL_ERROR, EventName.PROBE_UNKNOWN, EventName.PARKED, EventName.UNAVAILABLE})
MAX_EVENTS = 20_000
MAX_LOG_LINES = 20_000
"""Of one daemon."""
DIGITS = 4
"""A tenth of a millisecond."""


class Facts(Struct, frozen=True, kw_only=True):
    """What the page says of the run as a whole."""

    title: str
    command: str
    versions: str
    outcome: str
    """What the exit status means."""
    end: float
    """Seconds since the epoch."""
    remarks: list[str]


def build(facts: Facts, run: RunRecord, remains: Remains | None, redactor: Redactor) -> dict[str, Any]:
    """Return the data of the page: JSON with texts that are safe to show."""
    entries = journal_entries(remains.journal) if remains is not None else []
    starts = [run.start, *(entry.at for entry in entries[:1])]
    origin = min([*starts, *(test.phases[0].start for test in run.tests if test.phases)])
    end = max(facts.end, *(phase.stop for test in run.tests for phase in test.phases), origin + 0.001)
    lanes = _Lanes(origin, end, redactor)
    if remains is not None:
        lanes.add(remains, entries)
    workers = sorted({test.worker for test in run.tests}, key=_worker_order)
    return {
        "title": redactor.known(facts.title),
        "command": redactor.text(facts.command),
        "versions": facts.versions,
        "outcome": facts.outcome,
        "remarks": [redactor.text(remark) for remark in facts.remarks],
        "at": origin,
        "duration": round(end - origin, DIGITS),
        "workers": workers,
        "daemons": lanes.shown(),
        "tests": [_test(test, origin, workers, lanes, redactor) for test in run.tests],
    }


def journal_entries(journal: Piece) -> list[JournalEntry]:
    """Return the entries of a journal; lines that are damaged, or cut off, are left out."""
    decoder, found = msgspec.json.Decoder(JournalEntry), []
    for line in journal.data.split(b"\n"):
        try:
            found.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found[-MAX_EVENTS:]


def base_name(daemon: str) -> str | None:
    """Return which daemon this is an instance of, for one test; None if it is not such an instance."""
    match = INSTANCE.fullmatch(daemon)
    return match[1] if match is not None else None


def _worker_order(worker: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", worker)
    return (int(digits) if digits else -1, worker)


class _Lanes:
    """The daemons: each shared one has a lane, and all instances of it that belong to tests have one together."""

    def __init__(self, origin: float, end: float, redactor: Redactor) -> None:
        self._origin = origin
        self._end = end
        self._redactor = redactor
        self._lanes: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, list[int]] = {}
        """Daemon → the bytes at which the lines of its log begin, and the end of the last."""
        self._sub: dict[str, dict[str, Any]] = {}

    def add(self, remains: Remains, entries: Iterable[JournalEntry]) -> None:
        final = {daemon.name: daemon for daemon in remains.daemons}
        for name in remains.names:
            self._lane(name)
        self._lane(SUPERVISOR)
        entries = [*entries]
        states = {name: (self._origin, state) for name, state in _states_before(remains.names, entries, final)}
        for entry in entries:
            name = entry.daemon or SUPERVISOR
            self._event(name, entry)
            if entry.daemon is not None and entry.state:
                self._close(name, states.pop(name, None), entry.at)
                if entry.event != EventName.EXIT:
                    states[name] = (entry.at, entry.state)
        for name, state in states.items():
            self._close(name, state, self._end)
        for name, lane in self._lanes.items():
            log = remains.logs.get(name, remains.supervisor_log if name == SUPERVISOR else None)
            lane["log"] = self._log(name, log) if log is not None else []
            lane["cut"] = log.left_out if log is not None else 0
            lane["facts"] = _facts(final[name], self._redactor) if name in final else []

    def shown(self) -> list[dict[str, Any]]:
        """Return those that have something to show."""
        return [lane for lane in self._lanes.values() if lane["events"] or lane["log"] or lane["segments"]]

    def span(self, daemon: str, begin: int, end: int) -> list[int] | None:
        """Return the first line of a log after byte `begin` and the one after byte `end`; None if they are missing."""
        starts = self._lines.get(daemon)
        if not starts or begin < starts[0] or end > starts[-1]:
            return None
        return [bisect.bisect_left(starts, begin), min(bisect.bisect_left(starts, end), len(starts) - 1)]

    def relative(self, at: float) -> float:
        """Return a moment as seconds since the run began."""
        return round(at - self._origin, DIGITS)

    def _lane(self, name: str) -> dict[str, Any]:
        base = base_name(name)
        key = f"{base} of one test" if base is not None else name
        empty = {"name": key, "own": base is not None, "segments": [], "events": [], "log": [], "cut": 0, "facts": []}
        return self._lanes.setdefault(key, empty)

    def _event(self, name: str, entry: JournalEntry) -> None:
        lane = self._lane(name)
        what = f"{name}: {entry.event}" if lane["own"] else entry.event
        text = self._redactor.text(entry.detail or "")
        bad = entry.event in BAD or (
            entry.event == EventName.EXIT and entry.cause not in (Cause.OPERATOR, Cause.SUPERVISOR)
        )
        lane["events"].append([self.relative(entry.at), what, text, entry.cause or "", int(bad)])

    def _close(self, name: str, state: tuple[float, str] | None, at: float) -> None:
        if state is not None and state[1] not in QUIET:
            self._lane(name)["segments"].append([self.relative(state[0]), self.relative(at), state[1], name])

    def _log(self, name: str, piece: Piece) -> list[str]:
        starts, lines = [piece.start], list[str]()
        for raw in piece.data.splitlines(keepends=True):
            lines.append("".join(printable_lines(raw)))
            starts.append(starts[-1] + len(raw))
        self._lines[name] = starts[-MAX_LOG_LINES - 1 :]
        return self._redactor.text("\n".join(lines[-MAX_LOG_LINES:])).split("\n") if lines else []


def _states_before(
    names: Iterable[str], entries: Iterable[JournalEntry], final: Mapping[str, DaemonStatus]
) -> Iterator[tuple[str, str]]:
    """Yield the shared daemons that ran before the first entry: of a run that has kept them warm, or of a ``serve``."""
    first: dict[str, JournalEntry] = {}
    for entry in entries:
        if entry.daemon is not None and entry.state:
            first.setdefault(entry.daemon, entry)
    for name in names:
        if name in first:
            if first[name].event in (EventName.EXIT, EventName.STOPPING, EventName.DEGRADED):
                yield name, "ready"
        elif name in final and final[name].pid is not None:
            yield name, final[name].state


def _facts(daemon: DaemonStatus, redactor: Redactor) -> list[list[str]]:
    ready = f"{daemon.ready_after_s:.2f} s" if daemon.ready_after_s is not None else ""
    found = {
        "state": f"{daemon.state}{f': {daemon.detail}' if daemon.detail else ''}",
        "url": daemon.url or "",
        "pid": str(daemon.pid or ""),
        "version": daemon.version or "",
        "ready after": ready,
        "needed by": ", ".join(one.name for one in daemon.holders),
        "note": daemon.note or "",
    }
    return [[name, redactor.text(value)] for name, value in found.items() if value]


def _test(test: TestRecord, origin: float, workers: list[str], lanes: _Lanes, redactor: Redactor) -> dict[str, Any]:
    spans = {name: lanes.span(name, begin, end) for name, (begin, end) in test.spans.items()}
    found: dict[str, Any] = {
        "id": redactor.known(test.nodeid),
        "w": workers.index(test.worker),
        "o": test.outcome,
        "p": [
            [phase.when, round(phase.start - origin, DIGITS), round(phase.stop - origin, DIGITS)]
            for phase in test.phases
        ],
    }
    more: dict[str, Any] = {
        "d": test.daemons,
        "l": {name: span for name, span in spans.items() if span is not None and span[0] < span[1]},
        "s": [[name, redactor.text(text)] for name, text in test.slices],
        "e": [[lanes.relative(at), kind, redactor.text(text)] for at, kind, text in sorted(test.events)],
        "t": [redactor.text(text) for text in test.texts],
    }
    return found | {key: value for key, value in more.items() if value}
