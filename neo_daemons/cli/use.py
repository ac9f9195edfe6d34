"""Use daemons for the time of a program: start them, keep them, and let them go.

Without a running supervisor, one is started that ends with the last program that uses it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from neo_daemons import threads
from neo_daemons.control.client import REMADE_S, Client, ControlError, Lease, NoSupervisor, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus

from .background import CONNECT_S, POLL_S, connect, spawn
from .takeover import supervisor

NOTICED_S = 0.5
"""A supervisor has noticed within this time that a lease was given up."""
ENDED_S = 60.0
"""How long to wait for the end of the supervisor, which stops its daemons first."""


class NotAvailable(ControlError):
    """A daemon that a program needs is not available; ``str()`` says why."""


@contextlib.contextmanager
def used(state: StateDir, config: Path | None, names: Sequence[str], holder: str, wait_s: float) -> Iterator[None]:
    """Have daemons running within a ``with`` statement, also if the supervisor is replaced meanwhile.

    Args:
        names: the daemons, which are configured.
        holder: what to call this program.
        wait_s: how long to wait until all are ready, in seconds.

    Raises:
        NotAvailable: one of them is not available, or not ready in time.
        ControlError: there is no supervisor, and none can be started.
    """
    keeper = Keeper(state, config, names, holder)
    try:
        wait_until_ready(keeper.client, names, wait_s)
        yield
    finally:
        keeper.close()


def wait_until_ready(client: Client, names: Sequence[str], wait_s: float) -> list[DaemonStatus]:
    """Wait until daemons are ready, and return their status.

    Raises:
        NotAvailable: one of them is not available, or not ready in time.
    """
    deadline = time.monotonic() + wait_s
    found = []
    for name in names:
        needed = client.need(name, wait_s=max(deadline - time.monotonic(), 0.0))
        why = needed.failure
        if why is None and not needed.daemon.ready:
            why = f"it is not ready within {wait_s:g} s: {needed.daemon.detail or needed.daemon.state}"
        if why is not None:
            tail = "".join(f"\n    {line}" for line in needed.log_tail)
            raise NotAvailable(f"{name} is not available: {why}{tail}")
        found.append(needed.daemon)
    return found


class Keeper:
    """Holds a lease on daemons until it is closed, and takes it again if the supervisor is replaced.

    Args:
        own: use processes of its own of daemons that are not shared. `names` then has their names.

    Raises:
        ControlError: there is no supervisor, and none can be started.
    """

    def __init__(
        self, state: StateDir, config: Path | None, names: Sequence[str], holder: str, *, own: bool = False
    ) -> None:
        self.client = Client(state, patience_s=REMADE_S)
        self.names = tuple(names)
        self._config = config
        self._own = own
        self._holder = holder
        self._closed = threading.Event()
        self._stack = contextlib.ExitStack()
        self._lease = self._first()
        self._thread = threads.start(self._keep, "lease")

    def close(self) -> None:
        """Give up the lease. If the supervisor was started for this program, and no other uses it, wait for its end."""
        self._closed.set()
        self._lease.give_up()
        self._thread.join()
        self._stack.close()
        others_by, deadline = time.monotonic() + NOTICED_S, time.monotonic() + ENDED_S
        while time.monotonic() < deadline:
            try:
                found = self.client.status().supervisor
            except NoSupervisor:
                return
            except ControlError:
                pass
            else:
                if not found.ends_unused or (not found.stopping and time.monotonic() > others_by):
                    return
            time.sleep(POLL_S)

    def _first(self) -> Lease:
        """Take a lease from the running supervisor, or from a new one."""
        state = self.client.state_dir
        deadline = time.monotonic() + CONNECT_S
        while True:
            if (found := supervisor(state)) is None:
                state.create()
                started = spawn(state, self._config, "--until-unused")
                if connect(started, state, None) is not None:
                    raise ControlError("no supervisor could be started")
                started.close()
            else:
                found.close()
            try:
                return self._take()
            except ControlError as error:
                # One that is just ending refuses leases, and is gone soon.
                if time.monotonic() > deadline or not (isinstance(error, Unreachable) or self._is_ending()):
                    raise
            time.sleep(POLL_S)

    def _is_ending(self) -> bool:
        try:
            return self.client.status().supervisor.stopping
        except Unreachable:
            return True

    def _take(self) -> Lease:
        lease = self._stack.enter_context(self.client.lease(self._holder, needs=self.names, own=self._own))
        self.names = lease.needs or self.names
        return lease

    def _keep(self) -> None:
        while True:
            self._lease.wait_until_lost()
            while not self._closed.is_set():
                try:
                    self._lease = self._take()
                    break
                except NoSupervisor:
                    self._closed.wait(POLL_S * 10)  # another one may be started; we start none after a `down`
                except ControlError:
                    self._closed.wait(POLL_S)
            if self._closed.is_set():
                self._lease.give_up()
                return
