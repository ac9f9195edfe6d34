"""What a supervisor says about itself and its daemons: the contract of ``status --json`` and of the control API.

Fields are only ever added.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

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
    """Of one core, by the daemon's whole process tree, over the last second or longer; the same for all who ask."""
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
    requires: tuple[str, ...] = ()
    """The daemons that must be ready before this one starts, and that it needs while it runs."""
    after: tuple[str, ...] = ()
    """The daemons that are started before it, those that it refers to among them."""
    settled: bool = False
    """Whether it has an outcome: it is up, or will not be without somebody's help, or has failed several times in a
    row. False while waiting may still help, and while a reload is about to change it."""
    enabled: bool = True
    """Whether it is to run: a disabled one is started by hand only."""
    adopted: bool = False
    """The process was taken over from an earlier supervisor."""
    version: str | None = None
    env: dict[str, str] = {}
    """What a program that uses the daemon needs in its environment."""
    ready_after_s: float | None = None
    """From the latest spawn until it was ready."""


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


class EventName(StrEnum):
    """What a journal entry can be about: everything that `supervision` writes down, and nothing else."""

    # The daemon has come into this state.
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    DEGRADED = "degraded"
    BACKOFF = "backoff"
    PARKED = "parked"
    HELD = "held"
    STOPPING = "stopping"
    UNAVAILABLE = "unavailable"
    # Its process.
    EXIT = "exit"
    EXIT_LEARNED = "exit-learned"
    FOLLOWED = "followed"
    REPLACED = "replaced"
    SIGNALLED = "signalled"
    KILLED = "killed"
    SWEPT = "swept"
    NOT_SWEPT = "not-swept"
    NOT_PERMITTED = "not-permitted"
    NOT_STOPPED = "not-stopped"
    # Orders.
    HOLD = "hold"
    RELEASE = "release"
    # What it needs, and what it says.
    PORT_TAKEN = "port-taken"
    EXTERNAL_READY = "external-ready"
    EXTERNAL_NOT_READY = "external-not-ready"
    PROBE_UNKNOWN = "probe-unknown"
    LOG_ROTATED = "log-rotated"
    LOG_TRUNCATED = "log-truncated"
    LOG_DELETED = "log-deleted"
    # Records, and what earlier supervisors and sessions left.
    RECORD_FOREIGN = "record-foreign"
    RECORD_DAMAGED = "record-damaged"
    RECORD_NOT_WRITTEN = "record-not-written"
    RECORD_NOT_REMOVED = "record-not-removed"
    ORPHAN = "orphan"
    ORPHAN_NOT_ENDED = "orphan-not-ended"
    REAPED = "reaped"
    CLEARED = "cleared"
    # The supervisor.
    RELOAD_START = "reload-start"
    RELOAD_STOP = "reload-stop"
    RELOAD_REPLACE = "reload-replace"
    RELOAD_APPLY = "reload-apply"
    RELOAD_REFUSED = "reload-refused"
    STATE_DIR_COPIED = "state-dir-copied"
    STATE_DIR_MOVED = "state-dir-moved"
    STATE_DIR_REMADE = "state-dir-remade"
    STATE_DIR_LOST = "state-dir-lost"
    UNREACHABLE = "unreachable"
    JOURNAL_DAMAGED = "journal-damaged"
    INTERNAL_ERROR = "internal-error"
    SUPERVISOR_STARTED = "supervisor-started"
    SUPERVISOR_STOPPING = "supervisor-stopping"
    SUPERVISOR_DETACHING = "supervisor-detaching"
    SUPERVISOR_STOPPED = "supervisor-stopped"


class Cause(StrEnum):
    """Why a run ended, or why a daemon came into its state."""

    EXIT = "exit"  # the process exited by itself
    SIGNAL = "signal"  # a signal ended it that was not the supervisor's
    START_FAILED = "start-failed"  # no process came of it
    REFUSED = "refused"  # it must not be started: a port or directory is somebody else's
    PROBE = "probe"  # a probe's verdict condemned it
    RECYCLED = "recycled"  # too old or too large: graceful, and no failure
    OPERATOR = "operator"  # somebody ordered it
    SUPERVISOR = "supervisor"  # the supervisor stops, or carries out a reload
    FAULT = "fault"  # a test asked for it: no failure
    REPAIR = "repair"  # a test took its fault back
    ADOPTED = "adopted"  # an earlier supervisor started the process


class JournalEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. Programs go by `event` and `cause`; `detail` is for people."""

    at: Moment
    """Seconds since the epoch."""
    event: Annotated[str, Meta(description="one of the documented names; a later version may have more")]
    """An `EventName`; any text, so that the journal of another version can be read."""
    daemon: str | None = None
    state: str | None = None
    """The daemon's state after it."""
    pid: int | None = None
    detail: str | None = None
    cause: Annotated[str, Meta(description="one of the documented causes; a later version may have more")] | None = None
    """A `Cause`; None where there is none, and in the journals of earlier versions."""


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
    """The last lines of the run that is meant: the present one while it is up, else the one that failed or ended."""
    log_pid: int | None = None
    """The process that wrote them, where that run has ended."""
