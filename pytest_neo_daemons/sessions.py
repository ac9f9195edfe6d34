"""Connects a test process to its supervisor: its own, that of another process of the run, or a ``serve``."""

from __future__ import annotations

import abc
import contextlib
import copy
import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from neo_daemons import threads
from neo_daemons.control.client import Client, ControlError, Lease, Unreachable
from neo_daemons.definitions import Definition
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus
from neo_daemons.unpatched import Unpatched

if TYPE_CHECKING:
    from neo_daemons.ephemeral.launch import Owned
    from neo_daemons.status import Change

T = TypeVar("T")
FOREVER_S = 86_400.0 * 365
"""The supervisor enforces the start timeout in a daemon's definition, so the plugin needs none of its own."""
RECOVERY_S = 30.0
"""How long to wait for the replacement of a killed supervisor; it takes a fraction of this."""
TRY_AGAIN_S = 5.0
"""How long to keep trying to start another supervisor."""
ASK_AGAIN_S = 15.0
POLL_S = 0.02
MAX_DEATHS = 5
"""The number of consecutive supervisors that may die without ever answering."""
CLOSE_S = 5.0


class Unavailable(Exception):
    """A daemon or the supervisor is not available; ``str()`` says why, with the end of the log.

    Args:
        missing: a program is not installed, that of the daemon or of one that it waits for.
    """

    def __init__(self, why: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(why)


def says_all(error: Any) -> bool:
    """Return whether pytest leaves our own frames out of the traceback of an error, because its message says all.

    Args:
        error: the `pytest.ExceptionInfo`.
    """
    return bool(error.errisinstance((Unavailable, ControlError, TimeoutError, LookupError)))


__tracebackhide__ = says_all


def not_available(name: str) -> str:
    """Return how every message about an unavailable daemon begins; reports are searched for it."""
    return f"{name} is not available"


def suppress_unavailable() -> contextlib.suppress:
    """Ignore an unavailable daemon at the end of a test or a run: its next use reports it."""
    return contextlib.suppress(Unavailable, ControlError)


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


class Session(abc.ABC):
    """What the plugin needs from a supervisor."""

    ours = True
    """Whether the supervisor belongs to the run, so that tests may start, change and disturb its daemons."""
    skips_missing = False
    """Whether tests whose daemon is not installed are skipped instead of failing."""

    def __init__(self, state_dir: StateDir, names: Iterable[str]) -> None:
        self.state_dir = state_dir
        """The state directory of the supervisor."""
        self.client = Client(state_dir)
        self.names = tuple(names)
        """The names of the daemons."""
        self.external: tuple[str, ...] = ()
        """The URLs of the external ones."""

    @abc.abstractmethod
    def need(self, name: str, wait_s: float = FOREVER_S) -> DaemonStatus:
        """Start the daemon if needed. Return it when it is ready, or in its current state after `wait_s`.

        Raises:
            Unavailable: it is not available.
        """

    @abc.abstractmethod
    def need_supervisor(self) -> None:
        """Wait until the supervisor answers.

        Raises:
            Unavailable: there is none, and there will be none.
        """

    @abc.abstractmethod
    def definition(self, name: str) -> Definition | None:
        """Return the definition of a daemon; None if the session does not provide it.

        Raises:
            Unavailable: the definitions are not known yet, and the supervisor cannot be asked.
        """

    def begin(self, names: tuple[str, ...]) -> None:
        """Begin to start these daemons.

        Raises:
            Unavailable, ControlError: one of them is not available, or the supervisor is not.
        """
        for name in names:
            self.need(name, 0.0)

    def ask(self, request: Callable[[Client], T]) -> T:
        """Return the supervisor's answer to a request. Waits while a killed supervisor is being replaced.

        Raises:
            ControlError: the supervisor refused the request.
            Unavailable: there is none, and there will be none.
        """
        deadline = Unpatched.monotonic() + RECOVERY_S
        while True:
            self.need_supervisor()
            try:
                return request(self.client)
            except Unreachable:  # killed: another one is coming
                if Unpatched.monotonic() > deadline:
                    raise
                Unpatched.sleep(POLL_S)

    @abc.abstractmethod
    def close(self) -> None:
        """Release the supervisor."""


class _LeasedSession(Session):
    _keeper: Keeper
    _definitions: dict[str, Definition] | None = None

    def need_supervisor(self) -> None:
        self._keeper.wait(RECOVERY_S)

    def need(self, name: str, wait_s: float = FOREVER_S) -> DaemonStatus:
        end = Unpatched.monotonic() + wait_s
        while True:
            # In pieces, to notice a supervisor that hangs.
            piece_s = max(min(end - Unpatched.monotonic(), ASK_AGAIN_S), 0.0)
            needed = self.ask(functools.partial(Client.need, name=name, wait_s=piece_s))
            if needed.failure is not None or needed.daemon.ready or Unpatched.monotonic() >= end:
                break
        if needed.failure is None:
            return needed.daemon
        tail = "".join(f"\n    {line}" for line in needed.log_tail)
        nothing = "" if needed.daemon.state == "external" else "\nits log is empty"
        log = f"\nthe end of its log:{tail}" if tail else nothing
        raise Unavailable(f"{not_available(name)}: {needed.failure}{log}", missing=needed.daemon.missing)

    def definition(self, name: str) -> Definition | None:
        if self._definitions is None:  # asked once: they do not change during the run
            settings = self.ask(Client.settings)
            self._definitions = {definition.name: definition for definition in settings.definitions}
        # A copy: a project's fixture may modify it in place, and that must still be recognised as a change.
        return copy.deepcopy(self._definitions.get(name))


class OwnSession(_LeasedSession):
    """A session that this process started or found kept warm."""

    def __init__(self, owned: Owned, names: Iterable[str], *, found: bool) -> None:
        super().__init__(owned.state_dir, names)
        self.reused = found
        self.not_reused: str | None = None
        """Why the daemons that an earlier run kept warm were not used, if there were any."""
        self.unwatched: tuple[str, ...] = ()
        """Daemons that run a program of the project and do not notice when its files change."""
        self.changes: list[Change] = []
        """What a warm session had to change for this run."""
        self.replaced = 0
        """The number of supervisors that were killed during the run."""
        self._owned = owned
        self._set_up = not found
        self._deaths = 0
        self._answered = False
        self._left = False
        os.register_at_fork(after_in_child=owned.release)  # a forked child must not hold our lock
        self._keeper = Keeper(self.client, "pytest", self._lost, owner=True)

    def need_supervisor(self) -> None:
        super().need_supervisor()
        if not self._set_up:
            self.changes = [c for c in self._owned.set_up(self.client) if c.action != "keep"]
            self._set_up = True

    def begin(self, names: tuple[str, ...]) -> None:
        with self._owned.wanting(names) if not self._keeper.has_lease else contextlib.nullcontext():
            super().begin(names)

    def _lost(self, answered: bool) -> None:
        if answered:
            self._deaths, self._answered = 0, True
        if self._owned.supervisor_lives():
            return
        if self._deaths + 1 >= MAX_DEATHS:
            raise Unavailable(f"it keeps exiting; the end of its log: {self._owned.last_words()}")
        self._owned.spawn()
        self._deaths += 1
        self.replaced += self._answered  # a supervisor that never answered does not count

    def leave(self) -> None:
        """Let the supervisor end as soon as no other process of the run uses it. Only `close` may follow."""
        if not self._left:
            self._left = True
            self._owned.release()
            if not self._keeper.close():
                self._take_leave()

    def close(self) -> None:
        self.leave()
        if self._owned.keep_s == 0:
            with contextlib.suppress(KeyboardInterrupt):  # it exits anyway
                self._owned.wait_until_gone()

    def _take_leave(self) -> None:
        """Tell a supervisor that has only just been started that we do not need it: it counts our process as a lease
        until we have held one."""
        deadline = Unpatched.monotonic() + RECOVERY_S
        while self._owned.supervisor_lives() and Unpatched.monotonic() < deadline:
            try:
                with self.client.lease(self._keeper.holder, owner=True):
                    return
            except Unreachable:
                Unpatched.sleep(POLL_S)
            except ControlError:
                return  # it is exiting


class JoinedSession(_LeasedSession):
    """The session of another process of this run, used from an xdist worker."""

    def __init__(self, state_dir: StateDir, names: Iterable[str], worker: str) -> None:
        super().__init__(state_dir, names)
        self._keeper = Keeper(self.client, f"pytest worker {worker}", lambda held: None)

    def close(self) -> None:
        self._keeper.close()


class AttachedSession(Session):
    """The daemons of a ``serve``, which tests use but must not disturb."""

    ours = False

    def __init__(self, state_dir: StateDir, names: Iterable[str]) -> None:
        super().__init__(state_dir, names)
        self._keeper = Keeper(self.client, "pytest", lambda held: None, inhibit="*")

    def need(self, name: str, wait_s: float = FOREVER_S) -> DaemonStatus:
        deadline = Unpatched.monotonic() + wait_s
        while True:
            try:
                daemon = self.client.status().daemon(name)
            except ControlError as error:
                raise Unavailable(str(error)) from None
            if daemon.ready or Unpatched.monotonic() >= deadline:
                return daemon
            if daemon.settled and daemon.state != "degraded":  # which may yet answer again
                why = f"it is {daemon.state}{f' ({daemon.detail})' if daemon.detail else ''}"
                raise Unavailable(
                    f"{not_available(name)}: {why} in {self.state_dir.path}, and tests must not change an attached "
                    f"supervisor; see: {self.state_dir.command(f'why {name}')}",
                    missing=daemon.missing,
                )
            Unpatched.sleep(POLL_S)

    def ask(self, request: Callable[[Client], T]) -> T:
        try:
            return request(self.client)
        except Unreachable as error:  # nobody replaces it
            raise Unavailable(str(error)) from None

    def need_supervisor(self) -> None:
        self.ask(Client.status)

    def definition(self, name: str) -> Definition | None:
        return None

    def close(self) -> None:
        self._keeper.close()
