"""The types of the control API's requests and answers that are not in `neo_daemons.status`."""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
from typing import Annotated, Literal

from msgspec import Meta, Struct

from neo_daemons.definitions import Definition

VERSION = "v1"
OrderName = Literal["start", "stop", "restart", "hold", "release"]
DIRECTORY_HEADER = "neo-daemons-directory"
"""The header in which a client names its state directory (`records.Directory.key`). In a copied or moved directory the
record may name the socket of another supervisor, which then answers with status 421."""
METRICS = "/metrics"
"""Where scrapers look: the only path without a version."""
MAX_LINES = 100_000
MAX_BODY_BYTES = 65_536
MAX_DEFINITIONS_BYTES = 4_000_000
"""The limit of a body that holds definitions."""
WaitSeconds = Annotated[float, Meta(ge=0, le=86_400)]


def route(path: str) -> str:
    """Return the path of a request as it is sent."""
    return path if path == METRICS else f"/{VERSION}{path}"


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
    """Body of ``POST /v1/leases``. The lease lasts as long as the connection. Meanwhile the daemon `inhibit` (``*``:
    every daemon) is not recycled for its age or size, and the daemons `needs` are started and kept. A session's
    supervisor runs as long as it has leases; that of the `owner` takes the place of the process that started it."""

    holder: Annotated[str, Meta(max_length=200)]
    inhibit: str | None = None
    needs: tuple[str, ...] = ()
    owner: bool = False
    own: bool = False
    """Of each daemon with ``share = false`` in `needs`, get a process of its own. A name such as ``notes-3``, which an
    earlier supervisor has given, is got again."""


class LeaseGranted(Struct, frozen=True):
    """First line of the answer: the lease is in force."""

    lease: int
    needs: tuple[str, ...] = ()
    """The names of the daemons that it keeps: those that were asked for, or the processes of its own."""


class Need(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/daemons/NAME/need``."""

    wait_s: WaitSeconds = 0.0


class Signal(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/daemons/NAME/signal``, to a session's supervisor: injects a fault."""

    signal: Literal["SIGKILL", "SIGSTOP", "SIGCONT"]


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a session's supervisor: the answer to ``GET /v1/session``, and the body of ``PUT /v1/session``
    for a session that was kept warm."""

    definitions: tuple[Definition, ...]
    keep_s: Annotated[float, Meta(ge=0)]
    stated: tuple[Definition, ...] = ()
    """Only in the answer: what users of the session have set since, also for daemons that are gone."""


class Fault(Struct, frozen=True):
    """Body of an answer that reports an error."""

    error: str
