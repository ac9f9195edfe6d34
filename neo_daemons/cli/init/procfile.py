"""Daemons from the lines of a Procfile."""

from __future__ import annotations

import re
from pathlib import Path

from neo_daemons.config.builtins import BUILTINS

from .draft import Draft, command_of, is_installed, is_usable, name_of, needs_shell, read

FILE_NAME = "Procfile"
LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*:\s*(\S.*?)\s*")


def drafts(root: Path) -> tuple[list[Draft], list[str]]:
    """Return the daemons of the project's Procfile, and what else is to be said of it."""
    text = read(root / FILE_NAME)
    found, notes = list[Draft](), list[str]()
    for number, line in enumerate(text.splitlines() if text is not None else (), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line)
        name = name_of(match[1]) if match is not None else None
        if match is None or name is None or not is_usable(line):
            notes.append(f"{FILE_NAME}, line {number}: not carried over: {line}")
            continue
        draft = _draft(name, match[1], match[2], f"{FILE_NAME}, line {number}")
        if draft.table and not is_installed(program := draft.table["command"][0], root):
            draft.remarks.append(f"{program} is not installed here")
        found.append(draft)
    if found and (root / ".env").is_file():
        notes.append(".env is not read here: put its variables into env, or into the shell that starts the daemons")
    return found, notes


def _draft(name: str, stated: str, line: str, source: str) -> Draft:
    draft = Draft(name=name, source=source)
    if name in BUILTINS:
        draft.remarks.append(f"{name} is built in, and needs no command; this was: {line}")
        return draft
    draft.table = command_of(line)
    if stated == "release":
        draft.table["oneshot"] = True
        if draft.table.pop("port", None):
            draft.table = {"command": ["…"], "oneshot": True}
            draft.leave_out(f"what runs once has no port: {line}")
    elif stated == "web" or "port" in draft.table:
        draft.table["port"] = "auto"
        draft.table["env"] = {"PORT": "${port}"} | draft.table.get("env", {})
        draft.remarks.append('ready = { type = "http", path = "/" } would wait until it answers')
    if needs_shell(draft.table):
        draft.remarks.append("a shell runs it, because of the characters that only a shell understands")
    return draft
