"""What goes over the control socket, besides the types of `neo_daemons.status`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from neo_daemons.definitions import Definition
from neo_daemons.status import DaemonStatus

VERSION = "v1"
ORDERS = ("start", "stop", "restart", "hold", "release")
DIRECTORY_HEADER = "neo-daemons-directory"
"""With it a client says which state directory it means (`records.Directory.key`). Where a directory was copied or
moved, the socket may be another supervisor's, which then answers with status 421."""
MAX_LINES = 100_000
MAX_BODY_BYTES = 65_536
MAX_DEFINITIONS_BYTES = 4_000_000
"""Of a body that holds definitions."""
WaitSeconds = Annotated[float, Meta(ge=0, le=86_400)]


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/daemons/NAME/ORDER``."""

    wait_s: WaitSeconds = 0.0
    """How long the answer may wait for the outcome."""


class Reload(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/reload``."""

    dry_run: bool = False


class Shutdown(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/shutdown``. `detach` leaves the daemons running, for another supervisor to adopt."""

    detach: bool = False


class LeaseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/leases``. The lease lasts as long as the connection. `inhibit` names a daemon that must not
    be recycled for its age or size meanwhile, ``*`` all of them. A session's supervisor lives as long as its leases;
    that of the `owner` takes the place of the process that started it."""

    holder: Annotated[str, Meta(max_length=200)]
    inhibit: str | None = None
    owner: bool = False


class LeaseGranted(Struct, frozen=True):
    """First line of the answer: the lease is armed."""

    lease: int


class Need(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/daemons/NAME/need``, to a session's supervisor."""

    wait_s: WaitSeconds = 0.0


class Needed(Struct, frozen=True, kw_only=True):
    """The answer: the daemon, ready or still on its way, or why it cannot be had."""

    daemon: DaemonStatus
    failure: str | None = None
    log_tail: tuple[str, ...] = ()
    """Of the run that failed."""


class Signal(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/daemons/NAME/signal``, to a session's supervisor: a fault to test with."""

    signal: Literal["SIGKILL", "SIGSTOP", "SIGCONT"]


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a session's supervisor works by. The body of ``PUT /v1/session``, for one that was kept warm, and the answer
    to ``GET /v1/session``."""

    definitions: tuple[Definition, ...]
    keep_s: Annotated[float, Meta(ge=0)]


class Fault(Struct, frozen=True):
    """Body of every answer that is no success."""

    error: str


OrderName = Literal["start", "stop", "restart", "hold", "release"]
