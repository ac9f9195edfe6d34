"""What goes over the control socket, besides the types of `neo_daemons.status`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

VERSION = "v1"
ORDERS = ("start", "stop", "restart", "hold", "release")
MAX_LINES = 100_000
MAX_BODY_BYTES = 65_536
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
    be recycled for its age or size meanwhile, ``*`` all of them."""

    holder: Annotated[str, Meta(max_length=200)]
    inhibit: str | None = None


class LeaseGranted(Struct, frozen=True):
    """First line of the answer: the lease is armed."""

    lease: int


class Fault(Struct, frozen=True):
    """Body of every answer that is no success."""

    error: str


OrderName = Literal["start", "stop", "restart", "hold", "release"]
