"""Keeps a daemon for as long as the shim lives: its lease, and waiting until the daemon is ready."""

from __future__ import annotations

import contextlib
import os
import time

from neo_daemons import threads
from neo_daemons.control.client import REMADE_S, Client, ControlError, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus

READY_S = 600.0
"""How long to wait for readiness: the first start may have to fetch something."""
ABSENT_S = 10.0
"""How long to wait for a supervisor that is not running, which may be on its way back."""
NEED_S = 25.0
"""How long one question waits for readiness."""
POLL_S = 0.1
SLOW_POLL_S = 1.0


class CannotReach(Exception):
    """The daemon cannot be used; ``str()`` says why and what to do."""


class Keeper:
    """Holds a lease on a daemon, and takes it again whenever its supervisor is another one.

    All methods may be called by any thread.

    A supervisor that is not running is not started: `wait_ready` is where one would be brought up.
    """

    def __init__(self, name: str, state: StateDir) -> None:
        self.name = name
        self._client = Client(state, patience_s=REMADE_S)
        self._seen = False

    def begin(self) -> None:
        """Begin to hold the lease, in a thread that goes on as long as the process."""
        threads.start(self._hold, "neo-daemons-lease")

    def _hold(self) -> None:
        holder = f"mcp connect {self.name}, pid {os.getpid()}"
        while True:
            pause_s = SLOW_POLL_S
            with contextlib.suppress(ControlError, OSError), self._client.lease(holder, needs=(self.name,)) as lease:
                lease.wait_until_lost()
                pause_s = POLL_S
            time.sleep(pause_s)

    def wait_ready(self, wait_s: float = READY_S) -> DaemonStatus:
        """Wait until the daemon is ready and return its status.

        Raises:
            CannotReach: it will not be ready without help, or is not within `wait_s` seconds.
        """
        deadline = time.monotonic() + wait_s
        absent_until = time.monotonic() + (ABSENT_S if self._seen else 0.0)
        while True:
            try:
                needed = self._client.need(self.name, wait_s=max(min(deadline - time.monotonic(), NEED_S), 0.0))
            except Unreachable as error:
                if time.monotonic() >= absent_until:
                    raise CannotReach(str(error)) from None
            except ControlError as error:
                raise CannotReach(str(error)) from None
            else:
                self._seen = True
                absent_until = time.monotonic() + ABSENT_S
                daemon = needed.daemon
                if daemon.ready and daemon.url is not None:
                    return daemon
                if daemon.ready:
                    raise CannotReach(f"{self.name} has no URL; set daemons.{self.name}.url, or give it a port")
                if needed.failure is not None or time.monotonic() >= deadline:
                    fix = f"; fix: {daemon.remedy}" if daemon.remedy else ""
                    why = needed.failure or f"it is {daemon.state}: {daemon.detail or 'not ready in time'}"
                    raise CannotReach(f"{self.name} is not available: {why}{fix}")
            time.sleep(POLL_S)
