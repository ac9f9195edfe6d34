"""Reports on several daemons at once: as text, as JSON, and for ``/healthz``."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from .observation import SEVERITY, HealthStatus, Observation
from .observer import Observer

CHECK_STATUS: dict[HealthStatus, str] = {"healthy": "pass", "degraded": "warn", "unhealthy": "fail", "unknown": "fail"}
"""The statuses of the health check response format, draft-inadarei-api-health-check-06."""
UNAVAILABLE = 503


class HealthReport(Struct, frozen=True, kw_only=True):
    """The observations of a set of daemons."""

    status: HealthStatus
    """The status of the worst: unhealthy, then unknown, then degraded."""
    observed_at: float
    """When the report was made, in seconds since the epoch."""
    daemons: tuple[Observation[Any], ...]

    @classmethod
    def over(cls, daemons: Iterable[Observation[Any]]) -> HealthReport:
        """Create a report on these observations."""
        seen = tuple(daemons)
        worst: HealthStatus = max((one.status for one in seen), key=SEVERITY.index, default="healthy")
        return cls(status=worst, observed_at=time.time(), daemons=seen)

    def daemon(self, name: str) -> Observation[Any]:
        """Return the observation of the daemon `name`.

        Raises:
            KeyError: the report does not contain it.
        """
        for observation in self.daemons:
            if observation.daemon == name:
                return observation
        raise KeyError(name)

    def text(self) -> str:
        """Return the report as text, one line per daemon."""
        return "\n".join(map(str, self.daemons))

    def json(self) -> str:
        """Return the report as indented JSON. Later versions only add fields."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def healthz(self) -> tuple[int, dict[str, Any]]:
        """Return the HTTP status and body for an endpoint such as ``/healthz``. The status is 200 if every daemon can
        be used, else 503; the body is ``application/health+json``."""
        checks: dict[str, list[dict[str, Any]]] = {}
        for one in self.daemons:
            check = {
                "status": CHECK_STATUS[one.status],
                "time": datetime.datetime.fromtimestamp(one.observed_at, datetime.UTC).isoformat(),
                "observedValue": one.latency_ms,
                "observedUnit": "ms",
                "output": "; ".join(one.reasons),
            }
            checks.setdefault(one.daemon, []).append(check)
        status = CHECK_STATUS[self.status]
        return UNAVAILABLE if status == "fail" else 200, {"status": status, "checks": checks}


def check_all(observers: Iterable[Observer[Any]]) -> HealthReport:
    """Check all daemons concurrently."""
    begun = [(observer, observer.begin()) for observer in observers]
    return HealthReport.over([observer.collect(looking) for observer, looking in begun])


async def acheck_all(observers: Iterable[Observer[Any]]) -> HealthReport:
    """Like `check_all`, without blocking the event loop."""
    return HealthReport.over(await asyncio.gather(*(observer.acheck() for observer in observers)))
