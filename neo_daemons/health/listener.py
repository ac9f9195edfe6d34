"""Finds the process that listens at a local address."""

from __future__ import annotations

import time

from neo_daemons import processes
from neo_daemons.addresses import is_loopback

from .observer import Draft

ASK_AGAIN_S = 5.0
"""Seconds until the next search after one that found no process, mostly because it belongs to another user."""


class Listener:
    """Finds the process that listens at a loopback address, if the system shows it. The search takes milliseconds;
    confirming that it is still the same process takes almost no time."""

    def __init__(self) -> None:
        self._socket = ""
        self._pid: int | None = None
        self._sought_at = -ASK_AGAIN_S

    def seek(self, draft: Draft, host: str, port: int) -> None:
        """Write the process into `draft`, unless it is already known or nothing listens."""
        if draft.listener is None and not draft.nobody_listens:
            draft.listener = self._find(host, port)

    def _find(self, host: str, port: int) -> int | None:
        now = time.monotonic()
        if self._pid is not None and processes.holds_socket(self._pid, self._socket):
            return self._pid
        if self._pid is None and now < self._sought_at + ASK_AGAIN_S:
            return None
        self._pid, self._sought_at = None, now
        for address in ("127.0.0.1", "::1") if host == "localhost" else (host,):
            if is_loopback(address) and (found := processes.listener(address, port)) is not None:
                self._socket, self._pid = found
                break
        return self._pid
