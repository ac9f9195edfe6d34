"""The frozen values that observers return."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

HealthStatus = Literal["healthy", "degraded", "unhealthy", "unknown"]
"""`healthy`: it can be used. `degraded`: it can be used in part, or something about it is not as it should be.
`unhealthy`: it cannot be used. `unknown`: the check was not possible or has not finished; this does not mean dead."""
SEVERITY: tuple[HealthStatus, ...] = ("healthy", "degraded", "unknown", "unhealthy")
"""From best to worst. A set of daemons has the status of its worst."""
RecordStatus = Literal["live", "stale", "starting", "missing", "damaged", "unproven", "elsewhere"]
"""The status of a PID record in a state directory: its process is running (`live`), is gone or its pid belongs to
another process (`stale`), or is being spawned (`starting`); there is no record (`missing`), it is invalid (`damaged`),
its process cannot be verified (`unproven`), or it describes a daemon at another address than the one being checked
(`elsewhere`)."""


class Details(Struct, frozen=True, kw_only=True):
    """Details of one kind of daemon. A field is None if it was not checked."""

    @property
    def summary(self) -> tuple[str, ...]:
        """What to show of a healthy daemon."""
        return ()


D = TypeVar("D", bound=Details, covariant=True)


class Observation(Struct, Generic[D], frozen=True, kw_only=True):
    """The state of one daemon at `observed_at`."""

    daemon: str
    status: HealthStatus
    ready: bool
    """Whether a client can use it now."""
    reasons: tuple[str, ...] = ()
    """Why it is not healthy, the most important reason first."""
    url: str | None = None
    managed: bool | None = None
    """Whether a running supervisor manages this process; None without a state directory, or if that is unknown."""
    pid: int | None = None
    """The pid of the recorded process, if it is running; else of the one that listens at the local address."""
    restarts: int | None = None
    """How often the supervisor has restarted it, according to the PID record."""
    record: RecordStatus | None = None
    """The status of the PID record; None without a state directory."""
    latency_ms: float | None = None
    """How long the check took, in milliseconds."""
    observed_at: float
    """When the check ended, in seconds since the epoch."""
    age_s: float = 0.0
    """Seconds between the check and this result; above zero if the observation is reused."""
    details: D

    def as_dict(self) -> dict[str, Any]:
        """The observation as plain data, fit for JSON. Fields are only ever added."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    def __str__(self) -> str:
        parts = [f"{self.daemon}: {self.status}"]
        if self.pid is not None:
            parts.append(f"pid {self.pid}")
        rest = self.reasons if self.status != "healthy" else self.details.summary
        if self.url is not None and not any(part.startswith(self.url) for part in rest):
            parts.append(self.url)
        parts += rest
        if self.age_s >= 0.05:
            parts.append(f"seen {self.age_s:.1f} s ago")
        return ", ".join(parts)


class Transition(Struct, Generic[D], frozen=True, kw_only=True):
    """A change that `Observer.watch` saw. `before` is None in the first one."""

    before: Observation[D] | None
    after: Observation[D]

    def __str__(self) -> str:
        return f"{self.before.status if self.before else '-'} → {self.after}"
