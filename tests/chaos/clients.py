"""Clients of the control API, in processes of their own: followers, watchers and holders of leases, some of which
nobody reads, and which are killed or stopped in the middle of it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

from tests.harness import Project

LEASE = """
import sys
from pathlib import Path
from neo_daemons import Client
with Client(Path(sys.argv[1])).lease("chaos", inhibit="*") as lease:
    lease.wait_until_lost()
"""
MOST = 6
"""Clients at a time."""


class Clients:
    """Those of one project."""

    def __init__(self, project: Project, rng: random.Random) -> None:
        self._project = project
        self._rng = rng
        self._living: list[subprocess.Popen[bytes]] = []

    def add(self) -> None:
        """One more; the oldest goes, where there are many."""
        module = ["-m", "neo_daemons"]
        arguments = self._rng.choice(
            [
                [*module, "logs", "-f", "-n", "5000", self._rng.choice(["worker", "chroma"])],
                [*module, "events", "-f", "-n", "2000"],
                [*module, "events", "-f", "-n", "2000", "--json"],
                [*module, "status", "--watch", "--json"],
                ["-c", LEASE, str(self._project.state.path)],
            ]
        )
        unread = self._rng.random() < 0.5
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._project.root,
            env=self._project.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if unread else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._living.append(process)
        if len(self._living) > MOST:
            self._end(self._living[0])

    def kill(self) -> bool:
        """One of them, in the middle of it; whether there was one."""
        if self._living:
            self._end(self._rng.choice(self._living))
            return True
        return False

    def stop(self) -> bool:
        """One of them reads no more, and stays connected; whether there was one."""
        living = [process for process in self._living if process.poll() is None]
        if living:
            self._rng.choice(living).send_signal(signal.SIGSTOP)
        return bool(living)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._living.remove(process)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def close(self) -> None:
        """End them all."""
        while self._living:
            self._end(self._living[0])
