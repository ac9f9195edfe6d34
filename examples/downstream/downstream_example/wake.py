"""Sleeps until the bridge delivers a message."""

from __future__ import annotations

import time
from pathlib import Path

POLL_S = 0.1


class Sleeper:
    """Is woken by what the bridge delivers to an agent from now on."""

    def __init__(self, daemon_dir: Path, agent: str) -> None:
        self._log = daemon_dir / "wake-daemon.log"
        self._agent = agent
        self._position = self._log.stat().st_size if self._log.exists() else 0

    def is_woken(self) -> bool:
        """Return whether a message has been delivered since."""
        if not self._log.exists():
            return False
        with self._log.open("rb") as file:
            file.seek(self._position)
            lines = file.read().decode(errors="replace").splitlines()
        return any("Delivered" in line and f"for {self._agent}:" in line for line in lines)

    def sleep(self, timeout_s: float) -> None:
        """Wait until woken.

        Raises:
            TimeoutError: nothing woke the agent in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_woken():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing woke {self._agent} in {timeout_s:g} s")
            time.sleep(POLL_S)
