"""What `init` would write about one daemon, and how names, commands and strings of other files become ours."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from neo_daemons.config.builtins import BUILTINS
from neo_daemons.definitions import is_name
from neo_daemons.references import escape

MAX_FILE_BYTES = 262_144
"""What is larger was not written by a person."""
SHELL_SYNTAX = re.compile(r"""[|&;<>()$`*?~\[\]{}#!]""")
PORT_VARIABLE = re.compile(r"\$\{PORT\}|\$PORT(?![A-Za-z0-9_])")
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


class Draft(Struct, kw_only=True):
    """A table for the file."""

    name: str
    source: str
    """Where it was found, e.g. ``Procfile, line 2``."""
    table: dict[str, Any] = {}
    remarks: list[str] = []
    """What the reader of the table should know, among it what could not be carried over."""
    active: bool = True
    """False: the table is written as a comment, because it would not work as it is."""

    def leave_out(self, why: str) -> None:
        """Write it as a comment."""
        self.active = False
        self.remarks.append(why)


def read(path: Path) -> str | None:
    """Return the content of a file; None if it cannot be read, or is too large."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def name_of(text: str) -> str | None:
    """Return the name of a daemon that resembles `text`; None if there is none."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:58]
    return name if is_name(name) else None


def is_usable(text: str) -> bool:
    """Return whether the file can hold `text`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def command_of(line: str) -> dict[str, Any]:
    """Return what a line for a shell is in a table: `command`, and the `env` and `port` that it implies."""
    try:
        words = shlex.split(line)
    except ValueError:
        return {"command": ["sh", "-c", escape(line)]}
    table: dict[str, Any] = {}
    env: dict[str, str] = {}
    if not SHELL_SYNTAX.search(PORT_VARIABLE.sub("", line)) and "\n" not in line:
        while words and (assigned := ASSIGNMENT.fullmatch(words[0])):
            env[assigned[1]] = PORT_VARIABLE.sub("${port}", assigned[2])
            words.pop(0)
        table["command"] = [PORT_VARIABLE.sub("${port}", word) for word in words]
    if not any(word.strip() for word in table.get("command", ())[:1]):
        env = {}
        pieces = PORT_VARIABLE.split(line)
        table["command"] = ["sh", "-c", "${port}".join(map(escape, pieces))]
    if PORT_VARIABLE.search(line):
        table["port"] = "auto"
    return table | ({"env": env} if env else {})


def needs_shell(table: dict[str, Any]) -> bool:
    """Return whether `command_of` found syntax that only a shell understands."""
    return bool(table["command"][:2] == ["sh", "-c"])


def is_installed(program: str, root: Path) -> bool:
    """Return whether a program can be started from the project."""
    return shutil.which(program) is not None or ("/" in program and (root / program).is_file())


def settle(drafts: Iterable[Draft]) -> list[Draft]:
    """Return drafts that do not contradict each other: each name and fixed port once, and no circles."""
    known: dict[str, Draft] = {}
    settled: list[Draft] = []
    for draft in drafts:
        first = known.get(draft.name)
        if first is not None and draft.name in BUILTINS and not draft.table:
            first.remarks += [f"also found: {draft.source}", *draft.remarks]
            continue
        settled.append(draft)
        if first is not None:
            draft.leave_out(f"the name is that of the daemon found in {first.source}: choose another")
        elif draft.active:
            known[draft.name] = draft
    ports: dict[int, str] = {}
    for draft in known.values():
        _settle_ports(draft, ports)
        _settle_order(draft, known)
    return settled


def _settle_ports(draft: Draft, ports: dict[int, str]) -> None:
    stated = draft.table.get("ports") or {"": draft.table.get("port", "auto")}
    for key, number in stated.items():
        if number == "auto":
            continue
        if number in ports:
            draft.remarks.append(f"port {number} is that of {ports[number]}, so any free port is used: see its command")
            where = draft.table["ports"] if key else draft.table
            where[key or "port"] = "auto"
        ports.setdefault(number, draft.name)


def _settle_order(draft: Draft, known: dict[str, Draft]) -> None:
    """Leave out requirements that nothing meets, or that lead back to the daemon."""
    for key in ("requires", "after"):
        kept = []
        for other in draft.table.get(key, ()):
            if other not in known:
                draft.remarks.append(f"{key} {other}: not carried over, as there is no such daemon here")
            elif _leads_to(other, draft.name, known):
                draft.remarks.append(f"{key} {other}: not carried over, as that one waits for {draft.name}")
            else:
                kept.append(other)
        if key in draft.table:
            draft.table[key] = kept
            if not kept:
                del draft.table[key]


def _leads_to(start: str, goal: str, known: dict[str, Draft]) -> bool:
    seen: set[str] = set()
    left = [start]
    while left:
        name = left.pop()
        if name == goal:
            return True
        if name in known and name not in seen:
            seen.add(name)
            left += [*known[name].table.get("requires", ()), *known[name].table.get("after", ())]
    return False
