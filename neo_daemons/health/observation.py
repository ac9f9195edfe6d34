"""What an observer saw: frozen values."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

HealthStatus = Literal["healthy", "degraded", "unhealthy", "unknown"]
"""`healthy`: it can be used. `degraded`: it can be used in part, or something about it is not as it should be.
`unhealthy`: it cannot be used. `unknown`: nobody could look, or a look has not come back yet; never "dead"."""
SEVERITY: tuple[HealthStatus, ...] = ("healthy", "degraded", "unknown", "unhealthy")
"""Of a set of daemons, the one furthest to the right counts."""
RecordStatus = Literal["live", "stale", "starting", "missing", "damaged", "unproven", "elsewhere"]
"""What a PID record in a state directory is worth: its process lives (`live`), is gone or is another one by now
(`stale`), is being spawned (`starting`); there is no record (`missing`), it is no valid one (`damaged`), this system
does not tell (`unproven`), or it is the record of a daemon at another place than the one that is looked at
(`elsewhere`)."""


class Details(Struct, frozen=True, kw_only=True):
    """What is particular to one kind of daemon. A field that nobody looked at is None."""

    @property
    def summary(self) -> tuple[str, ...]:
        """What people want to know of it while it is healthy."""
        return ()


D = TypeVar("D", bound=Details, covariant=True)


class Observation(Struct, Generic[D], frozen=True, kw_only=True):
    """One daemon, as it was seen at `observed_at`."""

    daemon: str
    status: HealthStatus
    ready: bool
    """A client can use it now."""
    reasons: tuple[str, ...] = ()
    """Why it is not healthy, the most telling first."""
    url: str | None = None
    managed: bool | None = None
    """A living supervisor keeps this process; None if no state directory is given, or this system does not tell."""
    pid: int | None = None
    """Of the process on record, if it lives; else of the one that is seen to listen at a local address."""
    restarts: int | None = None
    """By the supervisor, as the PID record says."""
    record: RecordStatus | None = None
    """What the PID record is worth; None if no state directory is given."""
    latency_ms: float | None = None
    """How long the look took."""
    observed_at: float
    """When the look ended, in seconds since the epoch."""
    age_s: float = 0.0
    """How old this is at the time of the answer; above zero when it is used again."""
    details: D

    def as_dict(self) -> dict[str, Any]:
        """As plain data, fit for JSON. Fields are only ever added."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    def __str__(self) -> str:
        parts = [f"{self.daemon}: {self.status}"]
        if self.pid is not None:
            parts.append(f"pid {self.pid}")
        if self.url is not None:
            parts.append(self.url)
        parts += self.reasons if self.status != "healthy" else self.details.summary
        if self.age_s >= 0.05:
            parts.append(f"seen {self.age_s:.1f} s ago")
        return ", ".join(parts)


class Transition(Struct, Generic[D], frozen=True, kw_only=True):
    """A change that `Observer.watch` saw. `before` is None in the first one."""

    before: Observation[D] | None
    after: Observation[D]

    def __str__(self) -> str:
        return f"{self.before.status if self.before else '-'} → {self.after}"
