"""Shows on a terminal what daemons that are slow to start are doing."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from neo_daemons import threads
from neo_daemons.control.client import ControlError

if TYPE_CHECKING:
    import pytest

    from neo_daemons.control.client import Client

INTERVAL_S = 1.0
ON_THEIR_WAY = frozenset({"starting", "running", "backoff"})


class Progress:
    """Checks once a second, in a background thread, and prints a line for each change. Does nothing if standard output
    is not a terminal."""

    def __init__(self, config: pytest.Config, client: Client) -> None:
        self._client = client
        self._over = threading.Event()
        self._shown: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        if config.pluginmanager.has_plugin("terminalreporter") and sys.stdout.isatty():
            # A duplicate: while a test runs, pytest captures the original descriptor.
            self._terminal = os.dup(sys.stdout.fileno())
            self._thread = threads.start(self._watch, "neo-daemons progress")

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL_S):
            with contextlib.suppress(ControlError, OSError):
                for daemon in self._client.status().daemons:
                    before = self._shown.get(daemon.name)
                    if daemon.state in ON_THEIR_WAY:
                        now = f"{daemon.state}{f': {daemon.detail}' if daemon.detail else ''}"
                    elif before is not None:
                        now = daemon.state
                    else:
                        continue
                    if now != before:
                        self._shown[daemon.name] = now
                        os.write(self._terminal, f"\nneo-daemons: {daemon.name} is {now}\n".encode())

    def close(self) -> None:
        """Stop checking."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None
            os.close(self._terminal)
