"""The program that is supervised, and what it reports."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 60.0
POLL_S = 0.002
"""The times themselves are taken by the victims."""


class Report(NamedTuple):
    """A line that a victim wrote."""

    name: str
    pid: int
    """Negative: it was asked to stop."""
    at: float
    """Seconds of the monotonic clock."""


def build(directory: Path) -> Path:
    """The compiled victim.

    Raises:
        subprocess.CalledProcessError: it cannot be compiled.
        FileNotFoundError: there is no C compiler.
    """
    program = directory / "victim"
    subprocess.run(["cc", "-O2", "-o", str(program), str(Path(__file__).with_name("victim.c"))], check=True)
    return program


class Reports:
    """What the victims of one fleet have written, as far as it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.all: list[Report] = []
        self.pids: dict[str, int] = {}
        """Victim → its latest process."""

    def read(self) -> None:
        """Take in what is new."""
        lines = (self._rest + self._file.read()).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            name, pid, nanoseconds = line.decode().split()
            self.all.append(Report(name, int(pid), int(nanoseconds) / 1e9))
            if int(pid) > 0:
                self.pids[name] = int(pid)

    def wait(self, met: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Read until something is so.

        Raises:
            TimeoutError: it takes too long.
        """
        deadline = time.monotonic() + patience_s
        while True:
            self.read()
            if met():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            time.sleep(POLL_S)

    def close(self) -> None:
        """Read no more."""
        self._file.close()
