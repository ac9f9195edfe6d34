"""Reads a tutorial as what it tells its reader to do: write files, and run commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
FILE = re.compile(r"# ([\w./-]+\.?[\w-]+)\n")


class Step(NamedTuple):
    """A block of a page."""

    text: str
    file: str | None
    """The file that the block is the content of; None: it has commands."""

    @property
    def commands(self) -> list[str]:
        """The commands, one a line."""
        return [] if self.file else self.text.splitlines()


def steps(page: Path) -> list[Step]:
    """Return what a page tells its reader to do, in order. What has neither the name of a file in its first line nor is
    ``console`` is output."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        named = FILE.match(text)
        if language == "console":
            found.append(Step(text, None))
        elif named:
            found.append(Step(text, named[1]))
    return found
