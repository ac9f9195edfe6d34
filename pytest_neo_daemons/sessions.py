"""Connects a test process to its supervisor: its own, that of another process of the run, or a ``serve``."""

from __future__ import annotations

import abc
import contextlib
import copy
import functools
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from neo_daemons.control.client import Client, ControlError, Unreachable
from neo_daemons.definitions import Definition
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus
from neo_daemons.unpatched import Unpatched

from .deployed import NOTHING
from .keeper import Keeper
from .unavailable import Unavailable, not_available, says_all

if TYPE_CHECKING:
    from neo_daemons.ephemeral.launch import Owned
    from neo_daemons.status import Change

T = TypeVar("T")
FOREVER_S = 86_400.0 * 365
"""The supervisor enforces the start timeout in a daemon's definition, so the plugin needs none of its own."""
RECOVERY_S = 30.0
"""How long to wait for the replacement of a killed supervisor; it takes a fraction of this."""
ASK_AGAIN_S = 15.0
POLL_S = 0.02
AGAIN_S = 0.5
MAX_DEATHS = 5
"""The number of consecutive supervisors that may die without ever answering."""
REACHED_AGAIN_S = 60.0
"""How long to wait for a daemon of an engine that has been ready before."""
NOT_OURS = "it belongs to an attached supervisor, and tests must not disturb it; run without --neo-daemons-attach"


__tracebackhide__ = says_all


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
        self.deployed = NOTHING
        """Those that an engine runs."""

    @abc.abstractmethod
    def need(self, name: str, wait_s: float = FOREVER_S) -> DaemonStatus:
        """Start the daemon if needed. Return it when it is ready, or in its current state after `wait_s`.

        Raises:
            Unavailable: it is not available.
        """

    def refusal(self, name: str) -> str | None:
        """Return why tests must not disturb or change this daemon; None if it belongs to the run."""
        return self.deployed.refusal(name)

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

    def __init__(self, state_dir: StateDir, names: Iterable[str]) -> None:
        super().__init__(state_dir, names)
        self._reached: set[str] = set()
        """Daemons of an engine that have been ready and have not been given up."""

    def need_supervisor(self) -> None:
        self._keeper.wait(RECOVERY_S)

    def need(self, name: str, wait_s: float = FOREVER_S) -> DaemonStatus:
        unreachable = self.deployed.unreachable.get(name)
        if unreachable is not None:
            why = f"{not_available(name)} from {self.deployed.engine}: {unreachable.why}"
            raise Unavailable(why, missing=unreachable.skips)
        end = Unpatched.monotonic() + wait_s
        give_up = Unpatched.monotonic() + REACHED_AGAIN_S
        while True:
            try:
                daemon = self._need(name, end)
            except Unavailable:
                # The supervisor gives up sooner if a cluster cannot be reached for a while, or restarts a daemon.
                if Unpatched.monotonic() >= give_up:
                    self._reached.discard(name)
                if name not in self._reached or Unpatched.monotonic() >= end:
                    raise
                Unpatched.sleep(AGAIN_S)
                if name in self.deployed.tunnels:
                    self.ask(functools.partial(Client.order, name=name, order="start"))
            else:
                if daemon.ready and name in self.deployed:
                    self._reached.add(name)
                return daemon

    def _need(self, name: str, end: float) -> DaemonStatus:
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
        origin = f" from {self.deployed.engine}" if name in self.deployed else ""
        raise Unavailable(f"{not_available(name)}{origin}: {needed.failure}{log}", missing=needed.daemon.missing)

    def definition(self, name: str) -> Definition | None:
        if self._definitions is None:  # asked once: they do not change during the run
            self._definitions = {definition.name: definition for definition in self._read_definitions()}
        # A copy: a project's fixture may modify it in place, and that must still be recognised as a change.
        return copy.deepcopy(self._definitions.get(name))

    def _read_definitions(self) -> Iterable[Definition]:
        return self.ask(Client.settings).definitions


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
        names = tuple(name for name in names if name not in self.deployed.unreachable)
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

    def _read_definitions(self) -> Iterable[Definition]:
        return self._owned.definitions  # the supervisor has them from us

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

    def refusal(self, name: str) -> str | None:
        return NOT_OURS

    def close(self) -> None:
        self._keeper.close()
