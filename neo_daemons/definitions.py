"""Describes daemons and how they are launched: pure, frozen data.

Nothing here does I/O. Configurations and the catalog produce `Definition` objects; the supervision core consumes
them. The field names are the keys of a ``[daemons.NAME]`` table in ``neo-daemons.toml``.
"""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0)]
"""A duration in seconds, above zero."""
SecondsOrZero = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(min_length=1)]
HeaderName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", description="use letters, digits and -, as in Accept-Language"),
]
NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}\Z"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
"""A daemon's name: it becomes file names, fixture names and part of URLs."""


def is_name(text: str) -> bool:
    """Return whether `text` can be a daemon's name."""
    return re.search(NAME_PATTERN, text) is not None


Bytes = Annotated[int, Meta(ge=1)]
SignalName = Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"]


class Probe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", omit_defaults=True):
    """The settings of every probe; the terms are those of Kubernetes.

    `interval_s` is the time between two liveness probes (readiness is polled on its own schedule, from milliseconds
    upwards), `failures` the number of consecutive failures that mean dead.
    """

    interval_s: Seconds = 10.0
    timeout_s: Seconds = 5.0
    failures: Count = 3


class HttpProbe(Probe, frozen=True, tag="http"):
    """Requests a URL. Passes when the status is one of `status` (default: any 2xx) and `body`, a regular expression,
    is found in the answer. `port` names one of the daemon's ports (default: its first)."""

    path: str = "/"
    port: str | None = None
    url: str | None = None
    method: Literal["GET", "HEAD", "POST"] = "GET"
    headers: dict[HeaderName, str] = {}
    json: Any = None
    status: tuple[Annotated[int, Meta(ge=100, le=599)], ...] = ()
    body: str | None = None


class TcpProbe(Probe, frozen=True, tag="tcp"):
    """Passes when a connection to the port is accepted."""

    port: str | None = None


class ExecProbe(Probe, frozen=True, tag="exec"):
    """Passes when the command exits 0. It runs with the daemon's environment and working directory, and is killed
    with its whole process group at the timeout."""

    command: Annotated[tuple[str, ...], Meta(min_length=1)]


class LogProbe(Probe, frozen=True, tag="log"):
    """Passes once a line that the daemon wrote since its start matches the regular expression `pattern`."""

    pattern: str


class FileProbe(Probe, frozen=True, tag="file"):
    """Passes while a file shows progress.

    With `database` and `query`, `path` holds a position (an integer) and the query's single value is the end that it
    must reach: fails when the position is behind and has not moved for `within_s`. Without them, fails when the file
    has not changed for `within_s`.
    """

    path: Text
    within_s: Seconds = 30.0
    database: Text | None = None
    query: Text | None = None


AnyProbe = HttpProbe | TcpProbe | ExecProbe | LogProbe | FileProbe


class Port(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A port of a daemon: `fixed`, or any free one, if possible `preferred`."""

    fixed: PortNumber | None = None
    preferred: PortNumber | None = None


class Restart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When and how a daemon that exited is restarted.

    The first restart is immediate; the n-th after it waits ``base_s * factor ** (n - 1)``, at most `ceiling_s`,
    plus up to `jitter` of that. `stable_s` of being ready reset the failures. More than `limit` restarts in `window_s`
    park the daemon; it is tried again every `revive_s` (0: only manually). `kills` limits how many times in an hour
    liveness failures may stop the process.
    """

    when: Literal["always", "on-failure", "never"] = "always"
    base_s: Seconds = 0.5
    factor: Annotated[float, Meta(ge=1)] = 2.0
    ceiling_s: Seconds = 60.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1
    stable_s: SecondsOrZero = 60.0
    limit: Count = 10
    window_s: Seconds = 600.0
    revive_s: SecondsOrZero = 900.0
    kills: Annotated[int, Meta(ge=0)] = 5


class Stop(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a daemon is stopped: `signal` to its process group, and SIGKILL after `grace_s`."""

    signal: SignalName = "SIGTERM"
    grace_s: Seconds = 10.0


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Bounds of a daemon's log: rotated above `max_bytes`, with `keep` older files beside it."""

    max_bytes: Annotated[int, Meta(ge=4096)] = 10_000_000
    keep: Annotated[int, Meta(ge=0, le=100)] = 2


Quantity = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]+(\.[0-9]+)?([KMGT]i|[kMGT])?\Z", description='use a number and a unit, e.g. "512Mi" or "10Gi"'
    ),
]
"""A number of bytes, as Kubernetes writes it."""
CpuQuantity = Annotated[
    str, Meta(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]+)?)\Z", description='use cores, e.g. "2", or thousandths, e.g. "500m"')
]


class Secret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that is kept elsewhere: the entry `key` of the secret `secret`."""

    secret: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z",
            description="use a string of lower case letters, digits, - and .",
        ),
    ]
    key: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}\Z", description="use a string of letters, digits, -, _ and .")
    ]


class Resources(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a container may use: processors, memory, and graphics processors."""

    cpu: CpuQuantity | None = None
    memory: Quantity | None = None
    gpus: Count | None = None


class Deploy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a daemon runs in a container: what its definition cannot say of a machine that is not this one."""

    image: Text | None = None
    server: Literal["vllm", "llama.cpp", "ollama"] | None = None
    """The inference server that takes the place of mlx, which runs on macOS only."""
    command: tuple[str, ...] | None = None
    """Instead of the daemon's own; empty: that of the image."""
    env: dict[str, str | Secret] = {}
    port: PortNumber | None = None
    ports: dict[str, PortNumber] = {}
    data_dir: Annotated[str, Meta(pattern=r"^/[^:]*\Z", description="use an absolute path without a colon")] = "/data"
    """Where its data is in the container."""
    storage: Quantity | None = None
    """The size of its data, at most."""
    storage_class: Text | None = None
    resources: Resources = Resources()
    replicas: Count = 1
    user: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    """The number of the user that its processes run as; None: that of the image."""
    probe_with: Literal["sh", "bash", "curl", "wget", "python3", "neo-daemons"] | None = None
    """The program of the image that probes use where the engine cannot ask by itself."""
    ready: AnyProbe | tuple[AnyProbe, ...] | None = None
    """Instead of the daemon's own."""
    live: AnyProbe | tuple[AnyProbe, ...] | None = None


StartRule = Literal["always", "on-demand"]
"""Whether a daemon is started with its supervisor, or when somebody needs it."""


class Definition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon, completely described. Strings of `command`, `env`, `cwd`, probes and `url` may hold references
    (see `neo_daemons.references`) that are resolved when the ports are known."""

    name: Name
    builtin: str | None = None
    """The catalog entry that finds and provisions it; None for a daemon with its own `command`."""
    options: dict[str, str] = {}
    """Settings of the catalog entry, e.g. ``{"model": "/models/x"}``."""
    settings: dict[str, Any] = {}
    """What the catalog entry writes into the configuration file of its program. Only chroma has one."""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    host: str = "127.0.0.1"
    ports: dict[str, Port] = {}
    data_dir: str | None = None
    url: str | None = None
    exports: dict[str, str] = {}
    """Environment variables by which programs that use the daemon find it."""
    external: str | None = None
    """URL of an external daemon, which is observed and never controlled."""
    ready: tuple[AnyProbe, ...] = ()
    live: tuple[AnyProbe, ...] = ()
    restart: Restart = Restart()
    stop: Stop = Stop()
    start_grace_s: Seconds = 60.0
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    cascades: tuple[str, ...] = ()
    """Those of `requires` with which it is restarted."""
    log: Log = Log()
    max_runtime_s: Seconds | None = None
    max_rss_bytes: Bytes | None = None
    enabled: bool = True
    start: StartRule = "always"
    idle_stop_s: SecondsOrZero | None = None
    """How long a daemon on demand keeps running while nobody needs it; None: as long as its supervisor."""
    watch: tuple[str, ...] = ()
    """Patterns of files, relative to the project. When one of them changes, the process runs old code."""
    oneshot: bool = False
    """Whether it runs once: it is done when its command has ended with exit code 0."""
    user: Text | None = None
    """The user that its processes run as; None: that of the supervisor."""
    inputs: tuple[str, ...] = ()
    """Patterns of files, relative to the project, that a oneshot works on. When one of them changes, it runs again."""
    share: bool = True
    """False: a template. It never runs itself; each client of ``mcp connect`` gets an instance."""
    instance_of: str | None = None
    """The template that this daemon is an instance of. No key of a table."""
    groups: tuple[str, ...] = ()
    """Names by which commands mean several daemons at once, as ``@db``."""
    deploy: Deploy | None = None
    """How it runs in a container. The supervisor does not use it."""

    @property
    def is_template(self) -> bool:
        """Whether it runs only as instances, one for each client."""
        return not self.share and self.instance_of is None

    @property
    def speaks_stdio(self) -> bool:
        """Whether an instance talks to its client over standard input and output, because it has no port."""
        return not self.share and not self.ports

    @property
    def files(self) -> tuple[str, ...]:
        """The patterns of all files that a run depends on."""
        return self.watch + self.inputs


class Step(Struct, frozen=True, kw_only=True):
    """One command of a provision, run in the directory that is being created."""

    title: str
    command: tuple[str, ...]
    env: dict[str, str] = {}
    creates: str | None = None
    """A path that the command creates; if it exists, the command is skipped."""
    telling: tuple[str, ...] = ()
    """Regular expressions for the line of its output that says why it failed, the best first; the line's first group
    is reported. Without a match, the last line is reported."""
    shows_progress: bool = False
    """The last line of its output shows its progress."""
    timeout_s: Seconds | None = None


class Provision(Struct, frozen=True, kw_only=True):
    """Something that a daemon needs and that is created once: the directory `target`.

    It is created in ``target + ".partial"``, tested by the trial, and renamed if the trial succeeds, so that it either
    works or is absent; a finished step is not repeated after a crash. `files` (name → content) are put there before the
    first step.

    It is recreated if something in `holds` is missing, or if another trial fails. There is another trial after a failed
    start and, with `always_tried`, before the first start by each supervisor.
    """

    target: str
    steps: tuple[Step, ...]
    files: dict[str, str] = {}
    trial: Step | None = None
    """Uses the provision as the daemon will. Its last argument is the directory, its working directory is the daemon's,
    and its last line of output says what is wrong."""
    holds: tuple[str, ...] = ()
    """Paths in the directory that must exist."""
    always_tried: bool = False
    """The trial is quick."""


class Account(Struct, frozen=True, kw_only=True):
    """A user that a daemon is started as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All groups of the user, by number."""
    home: str


class Launch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a definition is run on this machine, resolved from the catalog or from its own command."""

    command: tuple[str, ...]
    env: dict[str, str] = {}
    version: str | None = None
    """Version of the program: a change replaces an adopted daemon."""
    note: str | None = None
    """What a user should know, e.g. that the model is the tiny one. Shown by status."""
    provisions: tuple[Provision, ...] = ()
    before: tuple[Step, ...] = ()
    """Run before each start, in the data directory; must be quick and safe to repeat."""
    stale_files: tuple[str, ...] = ()
    """Files that a killed run leaves and that harm the next one; removed before a start."""
    files: dict[str, str] = {}
    """Files that are written before each start: path → content. Both may hold references."""
    account: Account | None = None
    """Whom its processes run as; None: as the supervisor does."""
    watched: dict[str, str] = {}
    """The files that a run depends on, relative to the project, with a digest of each."""


class CannotRun(Struct, frozen=True, kw_only=True):
    """The result for a daemon that cannot run on this machine: the reason, and the command that fixes it."""

    reason: str
    remedy: str
    missing: bool
    """Whether a program is not installed, which is no fault of the definition."""


def fingerprint(definition: Definition, launch: Launch) -> str:
    """Identify what a running process was started from: 16 hex digits of SHA-256 over what only a new process can adopt
    (command, environment, directories, ports, version, files). Policies (probes, restart, limits) are left out: they
    are applied to a running daemon."""
    import hashlib  # it loads OpenSSL, which clients do not need

    launched: tuple[object, ...] = (
        launch.command,
        launch.version,
        {**launch.env, **definition.env},
        definition.cwd,
        definition.host,
        definition.ports,
        definition.data_dir,
        definition.external,
    )
    if launch.files or launch.watched:  # the fingerprints of other daemons stay as they were
        launched = (*launched, launch.files, launch.watched)
    if launch.account is not None:
        launched = (*launched, launch.account)
    if definition.oneshot:
        launched = (*launched, "oneshot")
    if not definition.share:
        launched = (*launched, "not shared")
    return hashlib.sha256(msgspec.json.encode(launched, order="sorted")).hexdigest()[:16]
