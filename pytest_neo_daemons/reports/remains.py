"""Reads what the supervisor of a run has written, before it is gone: logs, journal, definitions, status."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from neo_daemons.control.client import Client
from neo_daemons.definitions import Definition
from neo_daemons.status import DaemonStatus

from .. import log_slices
from ..sessions import Session
from ..unavailable import suppress_unavailable

MAX_LOG_BYTES = 1_000_000
"""Of one log: its end."""
MAX_LOGS_BYTES = 20_000_000
"""Of all logs."""
MAX_JOURNAL_BYTES = 4_000_000
MAX_LOGS = 200


class Piece(Struct, frozen=True):
    """The end of a file."""

    data: bytes
    start: int
    """The byte at which `data` begins in the file."""
    left_out: int
    """How many bytes of the run are missing before it."""


class Remains(Struct, kw_only=True):
    """What a run leaves, in memory."""

    names: tuple[str, ...]
    """The names of the shared daemons."""
    ours: bool
    state_dir: str
    daemons: list[DaemonStatus]
    definitions: list[Definition]
    journal: Piece
    logs: dict[str, Piece]
    """Daemon → its log."""
    supervisor_log: Piece
    not_read: list[str]
    """The daemons whose logs are left out, because there are too many."""


class Reader:
    """Knows where the run began in the files of its supervisor.

    Args:
        session: the session with the supervisor.
        journal_from: the byte at which the run begins in the journal.
    """

    def __init__(self, session: Session, journal_from: int) -> None:
        self._session = session
        self._journal_from = journal_from
        state = session.state_dir
        # Nothing of a `serve` that is older than the run belongs to it.
        self._begins = {path: log_slices.size(path) for path in (*_logs(state.logs), state.supervisor_log)}

    def read(self, daemons: list[DaemonStatus]) -> Remains:
        """Read everything.

        Args:
            daemons: the final status.
        """
        session = self._session
        definitions: list[Definition] = []
        if session.ours:
            with suppress_unavailable():
                settings = session.ask(Client.settings)
                known = {definition.name: definition for definition in (*settings.definitions, *settings.stated)}
                definitions = [*known.values()]
        room, logs, not_read = MAX_LOGS_BYTES, dict[str, Piece](), list[str]()
        for path in _logs(session.state_dir.logs):
            piece = self._end(path, min(MAX_LOG_BYTES, room)) if len(logs) < MAX_LOGS and room > 0 else None
            if piece is None:
                not_read.append(path.stem)
            else:
                logs[path.stem] = piece
                room -= len(piece.data)
        return Remains(
            names=session.names,
            ours=session.ours,
            state_dir=str(session.state_dir.path),
            daemons=daemons,
            definitions=definitions,
            journal=_end(session.state_dir.journal, self._journal_from, MAX_JOURNAL_BYTES),
            logs=logs,
            supervisor_log=self._end(session.state_dir.supervisor_log, MAX_LOG_BYTES),
            not_read=not_read,
        )

    def _end(self, path: Path, limit: int) -> Piece:
        return _end(path, self._begins.get(path, 0), limit)


def _logs(directory: Path) -> list[Path]:
    """Return the logs of daemons; without their older, rotated parts."""
    try:
        found = (path for path in directory.iterdir() if path.suffix == ".log" and "." not in path.stem)
        return sorted(path for path in found if path.is_file())
    except OSError:
        return []


def _end(path: Path, begin: int, limit: int) -> Piece:
    end = log_slices.size(path)
    begin = begin if begin <= end else 0  # it has been replaced since
    start = max(begin, end - limit)
    return Piece(log_slices.read(path, start, limit), start, start - begin)
