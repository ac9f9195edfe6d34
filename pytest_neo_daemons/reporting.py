"""What the reports of tests say of the daemons: the logs of a failing test, and what died meanwhile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.unpatched import Unpatched, read_at

from .incidents import Incident, JournalReader

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
"""Control sequences, ECMA-48: CSI, OSC, and the short ones."""
PROPERTY = "neo_daemons"
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


def add_section(report: pytest.TestReport | pytest.CollectReport, title: str, text: str) -> None:
    """Add to a failing report, where the terminal, JUnit XML and a controller of workers find it."""
    longrepr: Any = report.longrepr
    if hasattr(longrepr, "addsection"):
        longrepr.addsection(title, text, "-")
    elif isinstance(longrepr, str):
        report.longrepr = f"{longrepr}\n\n{f' {title} ':-^80}\n{text}"
    else:
        report.sections.append((title, text))


def set_properties(item: pytest.Item, report: pytest.TestReport, incidents: Iterable[Incident]) -> None:
    """Say in the report's properties what happened to the daemons."""
    others = [entry for entry in item.user_properties if entry[0] != PROPERTY]
    item.user_properties[:] = [*others, *((PROPERTY, str(incident)) for incident in incidents)]
    report.user_properties = list(item.user_properties)
