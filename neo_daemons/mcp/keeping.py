"""Keeps a daemon for as long as the shim lives: its lease, and waiting until the daemon is ready."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from neo_daemons import threads
from neo_daemons.control.client import REMADE_S, Client, ControlError, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus, Explanation

READY_S = 600.0
"""How long to wait for readiness: the first start may have to fetch something."""
ABSENT_S = 10.0
"""How long to wait for a supervisor that is not running, which may be on its way back."""
NEED_S = 25.0
"""How long one question waits for readiness."""
POLL_S = 0.1
Hold = Callable[[StateDir, str, str], str]
"""State directory, name of the daemon, and of the holder → name of the daemon that it has: an instance of its own
unless the daemon is shared."""


class CannotReach(Exception):
    """The daemon cannot be used; ``str()`` says why and what to do."""


class Keeper:
    """Holds a lease on a daemon, and takes it again whenever its supervisor is another one.

    All methods may be called by any thread.

    Args:
        hold: takes a lease for a holder and keeps it from then on. It may start a supervisor.
    """

    def __init__(self, name: str, state: StateDir, hold: Hold) -> None:
        self.name = self._wanted = name
        self._client = Client(state, patience_s=REMADE_S)
        self._hold = hold
        self._begun = threading.Event()
        self._failure: str | None = None

    def begin(self) -> None:
        """Begin to hold the lease, in a thread that goes on as long as the process."""
        threads.start(self._begin, "neo-daemons-lease")

    def _begin(self) -> None:
        try:
            holder = f"mcp connect {self._wanted}, pid {os.getpid()}"
            self.name = self._hold(self._client.state_dir, self._wanted, holder)
        except Exception as error:  # whatever it is, whoever waits for the lease must hear of it
            self._failure = str(error) or repr(error)
        self._begun.set()

    def speaks_stdio(self) -> bool:
        """Return whether the daemon is an instance of our own that speaks standard input and output. Waits until there
        is a lease, or cannot be one."""
        self._begun.wait()
        if self._failure is not None or self.name == self._wanted:
            return False
        try:
            return self.status().url is None
        except (ControlError, KeyError):
            return False  # `wait_ready` says why

    def status(self) -> DaemonStatus:
        """Return the status of the daemon.

        Raises:
            ControlError: the supervisor does not answer.
            KeyError: the daemon is gone.
        """
        return self._client.status().daemon(self.name)

    def why(self) -> Explanation:
        """Explain the state of the daemon.

        Raises:
            ControlError: the supervisor does not answer, or the daemon is gone.
        """
        return self._client.why(self.name)

    def socket(self) -> Path:
        """Return the path of the socket at which the daemon waits for us if it speaks standard input and output."""
        return self._client.state_dir.daemon_socket(self.name)

    def wait_reachable(self, wait_s: float = READY_S) -> DaemonStatus:
        """Wait until the daemon is ready and has a URL, and return its status.

        Raises:
            CannotReach: it will not be ready without help, or is not within `wait_s` seconds.
        """
        daemon = self.wait_ready(wait_s)
        if daemon.url is None:
            raise CannotReach(f"{self.name} has no URL; set daemons.{self._wanted}.url, or give it a port")
        return daemon

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
                # A supervisor that is new does not know an instance until the lease on it is taken again.
                if self.name == self._wanted or time.monotonic() >= absent_until:
                    raise CannotReach(str(error)) from None
            else:
                absent_until = time.monotonic() + ABSENT_S
                daemon = needed.daemon
                if daemon.ready:
                    return daemon
                if needed.failure is not None or time.monotonic() >= deadline:
                    fix = f"; fix: {daemon.remedy}" if daemon.remedy else ""
                    why = needed.failure or f"it is {daemon.state}: {daemon.detail or 'not ready in time'}"
                    raise CannotReach(f"{self.name} is not available: {why}{fix}")
            time.sleep(POLL_S)
