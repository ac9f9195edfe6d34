"""``logs``: the log of one daemon as it is, or those of several, merged."""

from __future__ import annotations

import argparse
import functools
import queue
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from neo_daemons import threads
from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client, SupervisorEnded, Unreachable
from neo_daemons.state_dir import StateDir

from . import display
from .codes import DONE
from .selection import names_of
from .streams import complain

LINES = 100
LINES_OF_EACH = 20
"""By default, so many are shown of one log, and of each of several."""
TIME = re.compile(
    r"[^0-9]{0,24}(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6})\d*)?\s?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
"""The time at the beginning of a line, perhaps after a colour, a bracket or a level."""
FOLLOWS = " | "
"""Stands between the name of a daemon and a line of its log."""


class Log(Struct):
    """The end of a daemon's log."""

    name: str
    lines: list[str]
    written_at: float
    """When it was last written; seconds since the epoch."""


def logs(options: argparse.Namespace) -> int:
    """Show logs."""
    state = find_state_dir(options.state_dir, file=options.config)
    client = Client(state, patience_s=REMADE_S)
    names = options.names
    if len(names) != 1 or names[0].startswith("@"):
        try:
            names = names_of(client.status().daemons, names or [daemon.name for daemon in client.status().daemons])
        except Unreachable:
            if options.follow or any(name.startswith("@") for name in names):
                raise
            names = list(dict.fromkeys(names)) or [path.stem for path in sorted(state.logs.glob("*.log"))]
            if not names:
                raise
    if len(names) == 1:
        return _one(client, state, names[0], options)
    return _several(client, state, names, options)


def _one(client: Client, state: StateDir, name: str, options: argparse.Namespace) -> int:
    write, empty = _text_writer(), True
    count = LINES if options.lines is None else options.lines
    try:
        for text in client.logs(name, count, follow=options.follow):
            write(text)
            empty = False
        if empty and count:
            return complain(f"the log of {name} is empty", DONE)
    except Unreachable as error:
        if options.follow and isinstance(error, SupervisorEnded):
            return DONE
        path = state.daemon_log(name)
        if not path.is_file():
            raise
        import asyncio  # it takes longer to import than most commands take

        asyncio.run(_one_of_file(path, count, write, follow=options.follow))
    return DONE


async def _one_of_file(path: Path, count: int, write: Callable[[str], None], *, follow: bool) -> None:
    """Write the log of a daemon without a supervisor."""
    from neo_daemons.definitions import Log as Limits
    from neo_daemons.supervision.logs import DaemonLog

    log = DaemonLog(path, Limits())
    if not follow:
        write("".join(f"{line}\n" for line in log.tail(count)))
        return
    async for text in log.follow(count):
        write(text)


def _text_writer() -> Callable[[str], None]:
    """Return a function that writes text: unchanged to a file or pipe, without control sequences to a terminal."""
    is_terminal, coloured = sys.stdout.isatty(), display.is_coloured()

    def write(text: str) -> None:
        sys.stdout.write(display.tame(text, coloured=coloured) if is_terminal else text)
        sys.stdout.flush()

    return write


def _several(client: Client, state: StateDir, names: list[str], options: argparse.Namespace) -> int:
    count = LINES_OF_EACH if options.lines is None else options.lines
    write, prefix = _text_writer(), display.prefixes(names)
    if options.follow:
        for name, line in _followed(state, names, count, {name: bool(_text(client, state, name, 1)) for name in names}):
            write(f"{prefix[name]}{FOLLOWS}{_ended(line)}\n")
        return DONE
    found = [Log(name, _text(client, state, name, count).splitlines(), _written_at(state, name)) for name in names]
    write("".join(f"{prefix[name]}{FOLLOWS}{_ended(line)}\n" for name, line in merged(found)))
    if count and not any(log.lines for log in found):
        return complain("the logs are empty", DONE)
    return DONE


def _ended(line: str) -> str:
    """Return a line that ends the colours in it."""
    return f"{line}{display.RESET}" if display.COLOUR.search(line) and not line.endswith(display.RESET) else line


def _text(client: Client, state: StateDir, name: str, count: int) -> str:
    try:
        return "".join(client.logs(name, count))
    except Unreachable:
        path = state.daemon_log(name)
        if not path.is_file():
            raise
    from neo_daemons.definitions import Log as Limits
    from neo_daemons.supervision.logs import DaemonLog

    return "".join(f"{line}\n" for line in DaemonLog(path, Limits()).tail(count))


def _written_at(state: StateDir, name: str) -> float:
    try:
        return state.daemon_log(name).stat().st_mtime
    except OSError:
        return time.time()


def merged(logs: list[Log]) -> Iterator[tuple[str, str]]:
    """Yield the lines of several logs by time, each after the name of its daemon.

    Only what daemons write is known of a line. One without a time has that of the line before it, or, at the beginning,
    of the first that has one. A log without any belongs to the time at which it was last written.
    """
    timed = [(at, log.name, line) for log in logs for at, line in zip(_times(log), log.lines, strict=True)]
    for _, name, line in sorted(timed, key=lambda each: each[0]):  # a stable sort: a log keeps its order
        yield name, line


def _times(log: Log) -> Iterator[float]:
    """Yield the times of the lines of a log, none before the one that precedes it."""
    stated = [time_of(line) for line in log.lines]
    at = next((one for one in stated if one is not None), log.written_at)
    for one in stated:
        at = max(at, one) if one is not None else at
        yield at


def time_of(line: str) -> float | None:
    """Return the time that a line begins with, in seconds since the epoch. Without a zone it is local time."""
    match = TIME.match(display.COLOUR.sub("", line[:120]))
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0').ljust(6, '0')}{zone or ''}").timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _followed(
    state: StateDir, names: list[str], count: int, has_lines: Mapping[str, bool]
) -> Iterator[tuple[str, str]]:
    """Yield the last lines of several logs by time, then new ones as they come, until the supervisor exits.

    Args:
        has_lines: whether there is something in a log already, so that its last lines are sure to come.
    """
    arrived: queue.SimpleQueue[tuple[str, str | BaseException | None]] = queue.SimpleQueue()
    for name in names:
        threads.start(functools.partial(_follow, state, name, count, arrived), f"log of {name}")
    pending = dict.fromkeys(names, "")
    awaited = {name for name in names if has_lines[name] and count}
    early: dict[str, list[str]] = {name: [] for name in names}
    left = len(names)
    while left:
        name, text = arrived.get()
        if isinstance(text, BaseException):
            raise text
        if text is None:
            left -= 1
            text = "\n" if pending[name] else ""
        *lines, pending[name] = (pending[name] + text).split("\n")
        if not awaited:
            yield from ((name, line) for line in lines)
            continue
        early[name] += lines
        awaited.discard(name)
        if not awaited or not left:
            yield from merged([Log(one, early[one], _written_at(state, one)) for one in names])
            awaited = set()


def _follow(
    state: StateDir, name: str, count: int, arrived: queue.SimpleQueue[tuple[str, str | BaseException | None]]
) -> None:
    try:
        for text in Client(state, patience_s=REMADE_S).logs(name, count, follow=True):
            arrived.put((name, text))
    except SupervisorEnded:
        arrived.put((name, None))
    except BaseException as error:
        arrived.put((name, error))
    else:
        arrived.put((name, None))
