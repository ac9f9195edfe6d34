"""The status that a supervisor reports: the contract of ``status --json`` and of the control API.

Fields are only ever added.
"""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
from collections.abc import Mapping
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


class Holder(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody who needs a daemon."""

    name: str
    """A program, as it calls itself, or ``daemon NAME``."""
    pid: int | None
    """The process that holds the lease; None if it came over TCP, and where the system does not tell."""
    since: Moment
    """Seconds since the epoch."""


class DaemonStatus(Struct, frozen=True, kw_only=True, gc=False):
    """The status of one daemon at the time of the request. It contains no cycle, so the garbage collector need not know
    it: a thousand of them for each request would wake it."""

    name: str
    state: str
    """idle, stopped, starting, running, ready, done, degraded, backoff, parked, held, stopping, unavailable or
    external."""
    ready: bool
    pid: int | None
    url: str | None
    ports: Mapping[str, int]
    restarts: int
    """How often the supervisor restarted it since it was last started manually or by `serve`."""
    uptime_s: float | None
    cpu_percent: float | None
    """Of one core, by the daemon's whole process tree, over the last second or longer; the same for all clients."""
    rss_bytes: int | None
    """Of its whole process tree, measured within the last two seconds."""
    log_path: str
    data_dir: str | None
    last_exit: Exit | None
    detail: str | None
    """The cause of the state, or the current activity."""
    remedy: str | None = None
    """The command or change that fixes it."""
    note: str | None = None
    """What a user should know, e.g. that the model is the built-in tiny one."""
    held: bool = False
    waiting_for: str | None = None
    """The daemon that must be ready or started before this one starts."""
    requires: tuple[str, ...] = ()
    """The daemons that must be ready before this one starts, and that it needs while it is running."""
    after: tuple[str, ...] = ()
    """The daemons that are started before it, including those that it refers to."""
    settled: bool = False
    """Whether there is an outcome: it is running, or will not run without help, or has several consecutive failures.
    False while waiting may still help, and while a reload is about to change it."""
    enabled: bool = True
    """Whether the supervisor starts it; a disabled daemon is only started manually."""
    adopted: bool = False
    """Whether the process was adopted from an earlier supervisor."""
    version: str | None = None
    env: Mapping[str, str] = {}
    """Environment variables that programs which use the daemon need."""
    ready_after_s: float | None = None
    """Seconds from the latest spawn until it was ready."""
    missing: bool = False
    """Whether it does not run because a program is not installed: its own, or that of a daemon that it waits for."""
    cascades: tuple[str, ...] = ()
    """Those of `requires` with which it is restarted."""
    holders: tuple[Holder, ...] = ()
    """Who needs it now, the longest first."""
    idle_stop_at: Moment | None = None
    """When it will be stopped unless somebody needs it before; seconds since the epoch."""
    user: str | None = None
    """The user that it runs as, if its definition names one."""
    groups: tuple[str, ...] = ()
    """The groups that it belongs to."""


class Needed(Struct, frozen=True, kw_only=True):
    """The answer to a need: the daemon, ready or still on its way, or why it is not available."""

    daemon: DaemonStatus
    failure: str | None = None
    log_tail: tuple[str, ...] = ()
    """The last lines of the run that failed."""


class SupervisorStatus(Struct, frozen=True, kw_only=True):
    """The supervisor itself."""

    pid: int
    version: str
    state_dir: str
    started_at: Moment
    """Seconds since the epoch."""
    config: str | None = None
    url: str | None = None
    """URL of the control API over TCP; None if it is not served over TCP."""
    stopping: bool = False
    ends_unused: bool = False
    """Whether it stops when no client holds a lease any more."""
    platform: str = "linux"
    """How it sees processes: ``linux``, or one of the fallbacks."""
    platform_reason: str | None = None
    """Why it is a fallback; None if it is none."""
    warning: str | None = None
    """A problem of the supervisor itself that it survives, e.g. a journal that cannot be written."""


class Status(Struct, frozen=True, kw_only=True):
    """The status of a supervisor and its daemons."""

    supervisor: SupervisorStatus
    daemons: tuple[DaemonStatus, ...]

    def daemon(self, name: str) -> DaemonStatus:
        """Return the daemon of that name.

        Raises:
            KeyError: there is none.
        """
        for daemon in self.daemons:
            if daemon.name == name:
                return daemon
        raise KeyError(name)


class EventName(StrEnum):
    """The events of journal entries: all that `supervision` records, and nothing else."""

    # The daemon has come into this state.
    STOPPED = "stopped"
    """It is down, and stays down."""
    STARTING = "starting"
    """It is being started; there is no process yet."""
    RUNNING = "running"
    """Its process is running, and not ready yet."""
    READY = "ready"
    """Its readiness probes have passed."""
    DONE = "done"
    """It runs once, and has succeeded."""
    DEGRADED = "degraded"
    """It was ready, and fails its liveness probes."""
    BACKOFF = "backoff"
    """It exited, or could not be started, and is started again after a delay."""
    PARKED = "parked"
    """It is not restarted for now; `detail` says why."""
    HELD = "held"
    """It is down, and on hold."""
    STOPPING = "stopping"
    """Its processes are being stopped, to stay down or to be started again."""
    UNAVAILABLE = "unavailable"
    """It cannot run at present; `detail` says what is missing."""
    # Its process.
    EXIT = "exit"
    """Its main process exited; `detail` says how."""
    EXIT_LEARNED = "exit-learned"
    """The kernel reported late how an adopted process exited."""
    FOLLOWED = "followed"
    """Its command forked and exited; the remaining process is now the daemon."""
    REPLACED = "replaced"
    """An adopted process was started from another definition and is stopped."""
    SIGNALLED = "signalled"
    """A client sent it a signal, to simulate a fault or to end one (in a session)."""
    KILLED = "killed"
    """A process of it still ran after its grace period, and got SIGKILL."""
    SWEPT = "swept"
    """A stray process of it was told to stop."""
    NOT_SWEPT = "not-swept"
    """A stray process of it cannot be stopped."""
    NOT_PERMITTED = "not-permitted"
    """A process of it may not be signalled."""
    NOT_STOPPED = "not-stopped"
    """A process of it cannot be stopped."""
    FILES_CHANGED = "files-changed"
    """Files that its definition watches have changed; `detail` names one."""
    FILES_NOT_WATCHED = "files-not-watched"
    """Changes of its files cannot be noticed at present; `detail` says why."""
    OUTDATED = "outdated"
    """Its run stands on a value of another daemon that has changed, or it cascades from one that was restarted."""
    # Orders.
    HOLD = "hold"
    """A user ordered that it is not restarted after it exits."""
    RELEASE = "release"
    """A user ended the hold."""
    # Its ports, probes and log.
    PORT_TAKEN = "port-taken"
    """Another process uses an auto port; the daemon gets another one."""
    EXTERNAL_READY = "external-ready"
    """The probes of an external daemon pass now."""
    EXTERNAL_NOT_READY = "external-not-ready"
    """The probes of an external daemon fail now."""
    PROBE_UNKNOWN = "probe-unknown"
    """A probe could not run, for a reason unrelated to the daemon. At most once per run."""
    LOG_ROTATED = "log-rotated"
    """Its log was rotated by copy-truncate, which may lose output. Lossless rotation is not recorded."""
    LOG_TRUNCATED = "log-truncated"
    """Its log was truncated or replaced, perhaps by the daemon itself. At most once an hour."""
    LOG_DELETED = "log-deleted"
    """Its log was deleted or moved, and the daemon still writes to the old file."""
    # Records, and what earlier supervisors and sessions left behind.
    RECORD_FOREIGN = "record-foreign"
    """The record's pid now belongs to another process, which is left alone."""
    RECORD_DAMAGED = "record-damaged"
    """A record cannot be read; it was moved aside."""
    RECORD_NOT_WRITTEN = "record-not-written"
    """A record cannot be written; `detail` says why."""
    RECORD_NOT_REMOVED = "record-not-removed"
    """A record cannot be removed; `detail` says why."""
    ORPHAN = "orphan"
    """A daemon that is no longer configured was stopped."""
    ORPHAN_NOT_ENDED = "orphan-not-ended"
    """A daemon that is no longer configured could not be stopped."""
    REAPED = "reaped"
    """Processes that an earlier session left behind were stopped (in a session)."""
    CLEARED = "cleared"
    """Files that an earlier session left behind were removed (in a session)."""
    # The supervisor.
    RELOAD_START = "reload-start"
    """A reload starts it."""
    RELOAD_STOP = "reload-stop"
    """A reload stops it."""
    RELOAD_REPLACE = "reload-replace"
    """A reload stops it, and starts it from its new definition."""
    RELOAD_APPLY = "reload-apply"
    """A reload gives it other settings, and leaves its process alone."""
    RELOAD_REFUSED = "reload-refused"
    """After SIGHUP: the configuration cannot be used, and nothing has changed."""
    STATE_DIR_COPIED = "state-dir-copied"
    """The state directory was copied from another place."""
    STATE_DIR_MOVED = "state-dir-moved"
    """The state directory was moved from another place."""
    STATE_DIR_REMADE = "state-dir-remade"
    """The state directory was deleted under a running supervisor, wholly or partly, and recreated."""
    STATE_DIR_LOST = "state-dir-lost"
    """The state directory was moved away or taken by another supervisor: this one stops its daemons and exits."""
    UNREACHABLE = "unreachable"
    """The control socket was removed and cannot be recreated now."""
    NOT_REGISTERED = "not-registered"
    """The registry cannot be written: test processes are not kept away from the daemons of this supervisor."""
    JOURNAL_DAMAGED = "journal-damaged"
    """Invalid lines of the journal were skipped."""
    INTERNAL_ERROR = "internal-error"
    """An error in the supervisor itself; its log has the traceback."""
    SUPERVISOR_STARTED = "supervisor-started"
    """The supervisor has started."""
    SUPERVISOR_STOPPING = "supervisor-stopping"
    """The supervisor begins to stop its daemons."""
    SUPERVISOR_DETACHING = "supervisor-detaching"
    """The supervisor begins to exit, and leaves its daemons running."""
    SUPERVISOR_STOPPED = "supervisor-stopped"
    """The supervisor has stopped."""


class Cause(StrEnum):
    """Why a run ended, or why a daemon came into its state."""

    EXIT = "exit"
    """The process exited by itself."""
    SIGNAL = "signal"
    """A signal from outside the supervisor killed it."""
    START_FAILED = "start-failed"
    """No process was started."""
    REFUSED = "refused"
    """It must not be started: another process uses its port or directory."""
    PROBE = "probe"
    """Its probes failed."""
    RECYCLED = "recycled"
    """It is too old (`max_runtime_s`), too large (`max_rss_bytes`), or its files (`watch`) or what it stands on
    have changed: not a failure."""
    OPERATOR = "operator"
    """A command of a user, by the command line or a client."""
    SUPERVISOR = "supervisor"
    """The supervisor is stopping or reloading."""
    IDLE = "idle"
    """Nobody needed it any more (`idle_stop_s`)."""
    FAULT = "fault"
    """Requested by a test: not a failure."""
    REPAIR = "repair"
    """A test ended its fault."""
    ADOPTED = "adopted"
    """An earlier supervisor started the process."""


class JournalEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event. Programs rely on `event` and `cause`; `detail` is for people."""

    at: Moment
    """Seconds since the epoch."""
    event: Annotated[str, Meta(description="one of the documented names; a later version may have more")]
    """An `EventName`; any text is accepted, so that the journal of another version can be read."""
    daemon: str | None = None
    state: str | None = None
    """The daemon's state after it."""
    pid: int | None = None
    detail: str | None = None
    cause: Annotated[str, Meta(description="one of the documented causes; a later version may have more")] | None = None
    """A `Cause`; None if there is none, and in the journals of earlier versions."""


class Change(Struct, frozen=True, kw_only=True):
    """The effect of a reload on one daemon."""

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
    """The last lines of the run in question: the current one while it is up, otherwise the last one."""
    log_pid: int | None = None
    """The process that wrote `log_tail`, if that run has ended."""
