"""Handles by which tests use daemons and inject faults into them."""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from neo_daemons.control.client import ControlError
from neo_daemons.urls import host_and_port, redacted

from .once import Once
from .sessions import FOREVER_S, Session
from .unavailable import Unavailable, says_all

if TYPE_CHECKING:
    from neo_daemons.status import DaemonStatus

ORDER_S = 600.0


class FaultRefused(Exception):
    """A test must not disturb this daemon; ``str()`` says why and how to fix it."""


class UnknownDaemon(KeyError):
    """The run has no such daemon; ``str()`` names those that it has."""

    def __str__(self) -> str:
        return str(self.args[0])  # not quoted, as a key is


def __tracebackhide__(error: Any) -> bool:  # noqa: N807 - pytest's name
    return says_all(error) or bool(error.errisinstance(FaultRefused))


class Daemon:
    """A daemon for a test to use, with methods that inject faults. `begin` makes it ready.

    Args:
        name: its name in the supervisor.
        refusal: returns why faults are refused; None if they are allowed.
        ready: called with the handle whenever the daemon is seen to be ready, perhaps on another port.
        used: called with the name whenever the handle is accessed.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        refusal: Callable[[], str | None],
        ready: Callable[[Daemon], None] = lambda daemon: None,
        used: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._session = session
        self._refusal = refusal
        self._ready = ready
        self._used = used
        self.lead_to(name)

    def lead_to(self, name: str) -> None:
        """Point the handle to this daemon, which is not known to be ready yet."""
        self.name = name
        self._paused = self._stopped = False
        self._latest: DaemonStatus | None = None

    def __repr__(self) -> str:
        url = self._latest.url if self._latest is not None else None
        return f"<Daemon {self.name}{f' {redacted(url)}' if url else ''}>"

    @property
    def _status(self) -> DaemonStatus:
        self._used(self.name)
        assert self._latest is not None, f"{self.name} has not been started"
        return self._latest

    @property
    def url(self) -> str:
        """Its URL; "" for a daemon without a port."""
        return self._status.url or ""

    @property
    def host(self) -> str:
        """The host of `url`; "" for a daemon without a port."""
        return urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The first of `ports`; for an external daemon, the port of `url` or the default port of its scheme.

        Raises:
            LookupError: the daemon has no port.
        """
        if self._status.ports:
            return next(iter(self._status.ports.values()))
        if not self.url:
            raise LookupError(f"{self.name} has no port")
        return host_and_port(self.url)[1]

    @property
    def ports(self) -> dict[str, int]:
        """Its ports by name."""
        return dict(self._status.ports)

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that its clients need."""
        return dict(self._status.env)

    @property
    def data_dir(self) -> Path | None:
        """Its data directory; None if it has none, or is external."""
        return Path(self._status.data_dir) if self._status.data_dir else None

    @property
    def log_path(self) -> Path:
        """The file that contains its output."""
        return Path(self._status.log_path)

    @property
    def external(self) -> bool:
        """Whether it is external: neo-daemons did not start it and does not control it."""
        return self._status.state == "external" or self.name in self._session.deployed

    @property
    def skips_missing(self) -> bool:
        """Whether tests are skipped if it is not installed (``neo_daemons_unavailable``)."""
        return self._session.skips_missing

    @property
    def pid(self) -> int | None:
        """Its current pid; None if it is not running or is external."""
        return self._now().pid if self.name not in self._session.deployed else None

    @property
    def state(self) -> str:
        """Its current state: ready, degraded, backoff, stopped … as in ``neo-daemons status``."""
        return self._now().state

    @property
    def restarts(self) -> int:
        """How often the supervisor has restarted it since it was started."""
        return self._now().restarts

    def _now(self) -> DaemonStatus:
        self._used(self.name)
        return self._session.ask(lambda client: client.status().daemon(self.name))

    def wait_ready(self, timeout_s: float = FOREVER_S) -> None:
        """Wait until it is ready, by default for as long as its definition allows.

        Raises:
            TimeoutError: it is not ready in time.
            Unavailable: it will not become ready because it cannot be started or was stopped; the message says why.
        """
        if self._stopped:
            raise Unavailable(f"{self.name} was stopped and stays stopped until start() or restart() is called")
        self._latest = self._session.need(self.name, timeout_s)
        if not self._latest.ready:
            raise TimeoutError(f"{self.name} is not ready after {timeout_s:g} s ({self._latest.state})")
        self._ready(self)

    def see(self, status: DaemonStatus) -> bool:
        """Update the handle from `status` if the daemon is ready. Return whether it is."""
        if status.ready:
            self._latest = status
            self._ready(self)
        return status.ready

    def logs(self, lines: int = 100) -> str:
        """Return the end of its log."""
        return self._session.ask(lambda client: "".join(client.logs(self.name, lines)))

    # Faults

    def kill(self) -> None:
        """Crash it: send SIGKILL to its process group. The supervisor restarts it; see `wait_ready`."""
        self._fault("kill")
        self._session.ask(lambda client: client.signal(self.name, "SIGKILL"))
        self._paused = False

    def pause(self) -> None:
        """Make it hang: send SIGSTOP to its process group. Its liveness probe, if any, eventually stops it."""
        self._fault("pause")
        self._session.ask(lambda client: client.signal(self.name, "SIGSTOP"))
        self._paused = True

    def resume(self) -> None:
        """End a `pause`."""
        self._fault("resume")
        self._paused = False
        with contextlib.suppress(ControlError):  # it has been restarted in the meantime
            self._session.ask(lambda client: client.signal(self.name, "SIGCONT"))

    def stop(self) -> None:
        """Stop it. It stays stopped until `start` or `restart`."""
        self._fault("stop")
        self._stopped = True
        self._session.ask(lambda client: client.order(self.name, "stop", wait_s=ORDER_S))

    def start(self) -> None:
        """Start it after a `stop`, and wait until it is ready. Its port may have changed."""
        self._fault("start")
        self._stopped = False
        self._session.ask(lambda client: client.order(self.name, "start"))
        self.wait_ready()

    def restart(self) -> None:
        """Stop it, start it again, and wait until it is ready."""
        self._fault("restart")
        self._stopped = False
        self._session.ask(lambda client: client.order(self.name, "restart", wait_s=ORDER_S))
        self.wait_ready()

    def _fault(self, what: str) -> None:
        why = self._session.deployed.refusal(self.name) or self._refusal()
        if self.external and self.name not in self._session.deployed:
            why = "it is external: neo-daemons does not control it"
        if why is not None:
            raise FaultRefused(f"cannot {what} {self.name}: {why}")

    @property
    def is_hurt(self) -> bool:
        """Whether a test has left it paused or stopped."""
        return self._paused or self._stopped

    def repair(self) -> None:
        """Resume or start it if a test left it paused or stopped."""
        self.unpause()
        if self._stopped:
            self.start()

    def unpause(self) -> None:
        """Resume it if a test left it paused."""
        if self._paused:
            self.resume()


class Daemons(Mapping[str, Daemon]):
    """All daemons by name; looking one up starts it."""

    def __init__(self, names: tuple[str, ...], get: Callable[[str], Daemon], state_dir: Path, once: Once) -> None:
        self._names = names
        self._get = get
        self.once = once
        """``once("NAME", function)`` returns what the function returns, run once for all workers; see `Once`."""
        self.state_dir = state_dir
        """The state directory of the supervisor."""

    def __getitem__(self, name: str) -> Daemon:
        if name not in self._names:
            raise UnknownDaemon(f"unknown daemon {name!r}; configured daemons: {', '.join(self._names) or 'none'}")
        return self._get(name)

    def __contains__(self, name: object) -> bool:  # Mapping's implementation would start the daemon
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def begin(daemon: Daemon) -> Daemon:
    """Wait until a daemon is ready. If it is not available, the test fails, without a traceback. It is skipped instead
    if something is not installed and the project wants that."""
    try:
        daemon.wait_ready()
        return daemon
    except (Unavailable, ControlError) as error:
        fault = str(error)
        skips = isinstance(error, Unavailable) and error.missing and daemon.skips_missing
    if skips:
        pytest.skip(fault.partition("\n")[0])
    pytest.fail(fault, pytrace=False)  # not in the except clause: pytest would also show its error
