"""What a supervisor says about itself and its daemons: the contract of ``status --json`` and of the control API.

Fields are only ever added.
"""

from __future__ import annotations

from msgspec import Struct

from .records import Moment


class Exit(Struct, frozen=True, kw_only=True):
    """How a daemon's last run ended."""

    code: int | None
    signal: str | None
    at: Moment
    """Seconds since the epoch."""
    pid: int
    text: str
    """For people: ``killed by SIGKILL``, with what caused it."""


class DaemonStatus(Struct, frozen=True, kw_only=True):
    """One daemon, as it was when it was asked for."""

    name: str
    state: str
    """stopped, starting, running, ready, degraded, backoff, parked, held, stopping, unavailable or external."""
    ready: bool
    pid: int | None
    url: str | None
    ports: dict[str, int]
    restarts: int
    """By the supervisor, since the daemon was last started by hand or by `serve`."""
    uptime_s: float | None
    cpu_percent: float | None
    """Of one core, by the daemon's whole process tree, since the status before."""
    rss_bytes: int | None
    log_path: str
    data_dir: str | None
    last_exit: Exit | None
    detail: str | None
    """The cause of the state, or what is going on."""
    remedy: str | None = None
    """The command or change that mends it."""
    note: str | None = None
    """What a user should know, e.g. that the model is the built-in tiny one."""
    held: bool = False
    waiting_for: str | None = None
    """The daemon that must be ready, or started, before this one starts."""
    adopted: bool = False
    """The process was taken over from an earlier supervisor."""
    version: str | None = None
    env: dict[str, str] = {}
    """What a program that uses the daemon needs in its environment."""
    ready_after_s: float | None = None
    """From the latest spawn until it was ready."""
    requires: tuple[str, ...] = ()
    """The daemons that it cannot do without."""
    after: tuple[str, ...] = ()
    """The daemons that are started before it, those that it refers to among them."""


class SupervisorStatus(Struct, frozen=True, kw_only=True):
    """The supervisor itself."""

    pid: int
    version: str
    state_dir: str
    started_at: Moment
    """Seconds since the epoch."""
    config: str | None = None
    url: str | None = None
    """Of the control API over TCP, where that was asked for."""
    stopping: bool = False
    warning: str | None = None
    """A fault of its own that it survives, e.g. a journal that cannot be written."""


class Status(Struct, frozen=True, kw_only=True):
    """Everything."""

    supervisor: SupervisorStatus
    daemons: tuple[DaemonStatus, ...]

    def daemon(self, name: str) -> DaemonStatus:
        """The daemon of that name.

        Raises:
            KeyError: there is none.
        """
        for daemon in self.daemons:
            if daemon.name == name:
                return daemon
        raise KeyError(name)


class JournalEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened."""

    at: Moment
    """Seconds since the epoch."""
    event: str
    daemon: str | None = None
    state: str | None = None
    """The daemon's state after it."""
    pid: int | None = None
    detail: str | None = None


class Change(Struct, frozen=True, kw_only=True):
    """What a reload does to one daemon."""

    name: str
    action: str
    """start, stop, replace, apply (no restart needed) or keep."""
    reason: str


class Explanation(Struct, frozen=True, kw_only=True):
    """The answer to ``why``."""

    daemon: DaemonStatus
    since: Moment
    """When it came into this state; seconds since the epoch."""
    next_try_s: float | None
    first_cause: str | None
    failures: int
    port_holders: dict[str, str]
    """Port → who listens on it."""
    probes: tuple[str, ...]
    """The latest results, changes only, oldest first."""
    events: tuple[JournalEntry, ...]
    log_tail: tuple[str, ...]
