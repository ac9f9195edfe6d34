"""Reads a tutorial as what it tells its reader to do: write files, and run commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
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


def commands(found: Sequence[Step]) -> Iterator[list[str]]:
    """Yield the words of each command, also of those of the CI."""
    for step in found:
        yield from map(shlex.split, step.commands)
        yield from map(
            shlex.split, re.findall(r"(?m)^ +- (?:run: )?((?:pip|pytest) .*)", step.text) if step.file else []
        )


def run(found: Sequence[Step], directory: Path, variables: Mapping[str, str]) -> str:
    """Follow a tutorial in an empty directory, as a user without a home, and return what it prints."""
    (directory / "home").mkdir()
    place = directory / "empty"
    place.mkdir()
    script = ["set -e"]
    for step in found:
        script += (
            [f"mkdir -p {Path(step.file).parent}", f"cat > {step.file} <<'EOF'\n{step.text}EOF"] if step.file else []
        )
        script += step.commands
        script += [" ".join(map(shlex.quote, words)) for words in commands([step]) if step.file]
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    environment = {**kept, "HOME": str(directory / "home"), "LANG": "C.UTF-8", "TMPDIR": str(directory), **variables}
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
    finally:
        for state in place.rglob(".neo-daemons"):
            subprocess.run(
                [sys.executable, "-m", "neo_daemons", "down", "--state-dir", state],
                check=False,
                timeout=60,
                env=environment,
            )
    assert done.returncode == 0, done.stdout
    return done.stdout
