"""Holds the lease of a process on its supervisor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from neo_daemons import threads
from neo_daemons.control.client import Client, ControlError, Lease
from neo_daemons.unpatched import Unpatched

from .unavailable import Unavailable, says_all

TRY_AGAIN_S = 5.0
"""How long to keep trying to start another supervisor."""
POLL_S = 0.02
CLOSE_S = 5.0

__tracebackhide__ = says_all


class Keeper:
    """Holds a lease in a background thread, and takes a new one when the supervisor has been replaced.

    Args:
        lost: called repeatedly in that thread while there is no lease, with whether there has been one since the
            previous call; may raise `Unavailable`.
    """

    def __init__(
        self,
        client: Client,
        holder: str,
        lost: Callable[[bool], None],
        *,
        owner: bool = False,
        inhibit: str | None = None,
    ) -> None:
        self._client = client
        self.holder = holder
        self._lost = lost
        self._owner = owner
        self._inhibit = inhibit
        self._closing = threading.Event()
        self._lease: Lease | None = None
        self._changed = threading.Condition()
        self.fault: str | None = None
        self._thread = threads.start(self._keep, "neo-daemons lease")
        # The child of a fork must not hold its parent's lease.
        os.register_at_fork(after_in_child=self._forget)

    def _keep(self) -> None:
        failing_since: float | None = None
        while not self._closing.is_set():
            held = False
            try:
                with self._client.lease(self.holder, owner=self._owner, inhibit=self._inhibit) as lease:
                    self._set(lease)
                    held = True
                    if not self._closing.is_set():
                        lease.wait_until_lost()
            except ControlError:
                pass
            self._set(None)
            if self._closing.is_set():
                return
            try:
                self._lost(held)
                failing_since = None
            except Exception as error:
                # Any error: a test may have patched whatever this needs, and will end soon.
                now = Unpatched.monotonic()
                failing_since = now if failing_since is None else failing_since
                if not isinstance(error, Unavailable) and now - failing_since < TRY_AGAIN_S:
                    Unpatched.sleep(POLL_S)
                    continue
                with self._changed:
                    self.fault = f"the supervisor died and could not be restarted: {error}"
                    self._changed.notify_all()
                return
            Unpatched.sleep(POLL_S)

    def _set(self, lease: Lease | None) -> None:
        with self._changed:
            self._lease = lease
            if lease is not None:
                self.fault = None
            self._changed.notify_all()

    def _forget(self) -> None:
        if self._lease is not None:
            self._lease.forget()

    @property
    def has_lease(self) -> bool:
        """Whether there is a lease now."""
        return self._lease is not None

    def wait(self, timeout_s: float) -> None:
        """Wait until there is a lease. After one timeout, later calls fail immediately.

        Raises:
            Unavailable: there is no lease, and there will be none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._lease is not None or self.fault is not None, timeout_s)
            if self._lease is None:
                self.fault = self.fault or f"no response from the supervisor for {timeout_s:g} s"
                raise Unavailable(self.fault)

    def close(self) -> bool:
        """Give up the lease. Return False if there was none."""
        self._closing.set()
        lease = self._lease
        if lease is not None:
            lease.give_up()
        self._thread.join(CLOSE_S)
        return lease is not None
