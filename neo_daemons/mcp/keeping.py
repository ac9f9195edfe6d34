"""Keeps a daemon for as long as the shim lives: its lease, and waiting until the daemon is ready."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

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
Hold = Callable[[StateDir, str, str], object]
"""State directory, name of the daemon, and of the holder."""


class CannotReach(Exception):
    """The daemon cannot be used; ``str()`` says why and what to do."""


class Keeper:
    """Holds a lease on a daemon, and takes it again whenever its supervisor is another one.

    All methods may be called by any thread.

    Args:
        hold: takes a lease for a holder and keeps it from then on. It may start a supervisor.
    """

    def __init__(self, name: str, state: StateDir, hold: Hold) -> None:
        self.name = name
        self._client = Client(state, patience_s=REMADE_S)
        self._hold = hold
        self._begun = threading.Event()
        self._failure: str | None = None

    def begin(self) -> None:
        """Begin to hold the lease, in a thread that goes on as long as the process."""
        threads.start(self._begin, "neo-daemons-lease")

    def _begin(self) -> None:
        try:
            self._hold(self._client.state_dir, self.name, f"mcp connect {self.name}, pid {os.getpid()}")
        except Exception as error:  # whatever it is, whoever waits for the lease must hear of it
            self._failure = str(error) or repr(error)
        self._begun.set()

    def wait_ready(self, wait_s: float = READY_S) -> DaemonStatus:
        """Wait until the daemon is ready and return its status.

        Raises:
            CannotReach: it will not be ready without help, or is not within `wait_s` seconds.
        """
        self._begun.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._begun.clear()
            self.begin()  # for the next request
            raise CannotReach(failure)
        deadline = time.monotonic() + wait_s
        absent_until = time.monotonic() + ABSENT_S
        while True:
            try:
                needed = self._client.need(self.name, wait_s=max(min(deadline - time.monotonic(), NEED_S), 0.0))
            except Unreachable as error:
                if time.monotonic() >= absent_until:
                    raise CannotReach(str(error)) from None
            except ControlError as error:
                raise CannotReach(str(error)) from None
            else:
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
