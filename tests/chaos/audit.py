"""What must hold when all is quiet again. Each check takes what it judges and returns what is wrong with it, one
sentence each, so that every check can be shown to fail."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from neo_daemons.state_dir import StateDir
from neo_daemons.status import JournalEntry
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.slot import DATA_LOCK

from .watch import Footprint

GROWTH_BYTES = 16_000_000
"""How much the supervisor may grow within one life, from warmed up to calm after the chaos: its journal's 2000 latest
entries, the logs' last pieces and what the allocator keeps of a storm of requests are a few megabytes."""
KEPT = re.compile(
    r"\.gitignore|supervisor\.lock|intentions\.json|journal(\.1)?\.jsonl|supervisor\.log|daemons|logs|data"
    r"|daemons/[a-z]+\.lock|daemons/[a-z]+\.json\.damaged-\d+|intentions\.json\.damaged-\d+|logs/[a-z]+\.log(\.\d+)?"
)
"""What docs/supervision.md says is in a state directory that nobody supervises."""
STARTED = re.compile(r"\[PID:(\d+)\].*Started\. Tail-syncing from GraphLog ID: (\d+)")
SUBJECT = re.compile(r"subject-\d+-")
SHOWN = 5


def lost_writes(ledger: Iterable[tuple[str, str]], contents: Mapping[str, str]) -> list[str]:
    """Acknowledged documents (id, content) that are not there, or are not what was written."""
    return [
        f"acknowledged write lost: {id_} holds {contents.get(id_)!r}, written {document!r}"
        for id_, document in ledger
        if contents.get(id_) != document
    ]


class Wakes(NamedTuple):
    """What became of the wake messages."""

    lost: list[str]
    repeated: list[str]
    gap: int
    """Of messages that the bridge itself dropped: taken by a run that was killed before it delivered them."""


def judge_wakes(ledger: Iterable[tuple[str, str]], log_ids: Mapping[str, int], log: Iterable[str]) -> Wakes:
    """Each acknowledged message (id, subject) must be delivered exactly once, as the bridge's log tells.

    The bridge promises less when it is killed: it writes down its position, and delivers an instant later. So what a
    killed run had taken and not delivered is passed over by the next run. That, and nothing else, is excused: a message
    between the last delivery before a start of the bridge and the position which that start begins at.
    """
    messages = list(ledger)
    id_of = {subject: log_ids.get(message, 0) for message, subject in messages}
    delivered: Counter[str] = Counter()
    gaps: list[tuple[int, int]] = []
    latest = 0
    for line in log:
        start = STARTED.search(line)
        if start:
            gaps.append((latest, int(start[2])))
        for subject in SUBJECT.findall(line):
            delivered[subject] += 1
            latest = max(latest, id_of.get(subject, 0))
    missing = [(message, id_of[subject]) for message, subject in messages if not delivered[subject]]
    excused = {message for message, at in missing if any(low < at <= high for low, high in gaps)}
    return Wakes(
        [f"wake message lost: {message}, entry {at} of the log" for message, at in missing if message not in excused],
        [f"wake message delivered {n} times: {s}" for s, n in delivered.items() if n > 1],
        len(excused),
    )


def bad_journal_lines(state: StateDir) -> list[str]:
    """Lines of the journal, and of the one before, that are no entries."""
    return [fault for path in journals(state) for fault in _bad_lines(path)]


def journals(state: StateDir) -> list[Path]:
    return sorted(path for path in state.path.glob("journal*") if path.is_file())


def _bad_lines(path: Path) -> list[str]:
    data = path.read_bytes()
    faults = [] if data.endswith(b"\n") or not data else [f"{path.name} ends within a line"]
    for number, line in enumerate(data.splitlines(), 1):
        try:
            msgspec.json.decode(line, type=JournalEntry)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            faults.append(f"{path.name}, line {number}: {error}: {line[:80]!r}")
    return faults


def journal_counts(state: StateDir) -> tuple[Counter[str], set[tuple[str, int]]]:
    """How often each event was written down, and the processes (daemon, pid) that ever ran."""
    events: Counter[str] = Counter()
    ran = set()
    for path in journals(state):
        for line in path.read_bytes().splitlines():
            try:
                entry = msgspec.json.decode(line, type=JournalEntry)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # told by `bad_journal_lines`
            events[entry.event] += 1
            if entry.event == "running" and entry.daemon is not None and entry.pid is not None:
                ran.add((entry.daemon, entry.pid))
    return events, ran


def orphans(state_dir: Path) -> list[str]:
    """Processes that bear the mark of the state directory, or hold one of its locks."""
    platform = current_platform()
    found = {}
    for process, mark in platform.marked(lambda mark: mark.state_dir == str(state_dir)):
        found[process.pid] = f"orphan of {mark.name}: pid {process.pid} ({platform.describe(process.pid)})"
        process.close()
    for path in locks(state_dir):
        for process in platform.lock_holders(path) or ():
            text = f"orphan with {path.relative_to(state_dir)}: pid {process.pid} ({platform.describe(process.pid)})"
            found.setdefault(process.pid, text)
            process.close()
    return list(found.values())


def locks(state_dir: Path) -> list[Path]:
    return sorted([*state_dir.glob("*.lock"), *state_dir.glob("daemons/*.lock"), *state_dir.glob("data/*/.*.lock")])


def held_locks(state_dir: Path) -> list[str]:
    """Locks of the state directory that somebody holds."""
    held = []
    for path in locks(state_dir):
        lock = current_platform().lock(path)
        if lock is None:
            held.append(f"still locked: {path.relative_to(state_dir)}")
        else:
            lock.release()
    return held


def leaked_files(state_dir: Path, sockets: Iterable[Path] = ()) -> list[str]:
    """What a stopped supervisor leaves and should not. The daemons' data is their own affair."""
    found = [f"socket left: {path}" for path in sockets if os.path.lexists(path)]
    for path in sorted(state_dir.rglob("*")):
        name = str(path.relative_to(state_dir))
        if not name.startswith("data/") and not KEPT.fullmatch(name):
            found.append(f"file left in the state directory: {name}")
    return found


def taken_ports(ports: Iterable[int]) -> list[str]:
    """Ports that cannot be listened on."""
    taken = []
    for port in sorted(set(ports)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            taken.append(f"port {port} is still held by {current_platform().port_holder(port)}")
    return taken


def leaked_descriptors(before: Footprint, after: Footprint) -> list[str]:
    """Kinds of descriptors of the supervisor that have become more. A data directory's lock is held by an adopted
    daemon alone, and by its supervisor too from the first start by that: one of each is none too many."""
    return [
        f"the supervisor's descriptors: {count} more of {kind}"
        for kind, count in (after.descriptors - before.descriptors).items()
        if not (kind.endswith(f"/{DATA_LOCK}") and after.descriptors[kind] == 1)
    ]


def growth(before: Footprint, after: Footprint) -> list[str]:
    """The supervisor's memory, if it has grown beyond its bound."""
    grown = after.uss_bytes - before.uss_bytes
    text = f"the supervisor has grown by {grown} bytes, from {before.uss_bytes}; allowed are {GROWTH_BYTES}"
    return [text] if grown > GROWTH_BYTES else []


def shorten(faults: list[str]) -> list[str]:
    """The first few, and how many more there are."""
    rest = len(faults) - SHOWN
    return faults if rest <= 0 else [*faults[:SHOWN], f"… and {rest} more like that"]
