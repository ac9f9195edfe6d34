"""Provides the lifecycle services under their old names, for callers that still use them. They only observe.

Each call returns a dictionary, as it always did. None of them starts or stops a daemon; only the supervisor does.
docs/health.md says what to call instead.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from .chroma import ChromaObserver
from .mlx import MlxObserver
from .observation import Details
from .observer import NotReady, Observer

HEARTBEAT_S = 30.0
"""How many seconds `wait_for_heartbeat` waits by default."""

D = TypeVar("D", bound=Details)


class _LifecycleService(Generic[D]):
    def __init__(self, observer: Observer[D]) -> None:
        self.observer = observer

    def _start(self, wait_s: float) -> dict[str, Any]:
        try:
            seen = self.observer.wait_until_ready(wait_s) if wait_s > 0 else self.observer.check()
        except NotReady as error:
            seen = error.observation
        if seen.ready:
            return {"status": "already_running", "detail": str(seen), "pid": seen.pid, "managed": seen.managed}
        remedy = self.observer.remedy(seen)
        status = "unknown" if seen.status == "unknown" else "offline"
        return {"status": status, "detail": f"{seen}. {remedy}", "pid": seen.pid, "managed": seen.managed}

    def _stop(self) -> dict[str, Any]:
        seen = self.observer.check()
        mine = "this service does not own the daemon and cannot stop it"
        if seen.pid is None and not seen.ready and seen.status != "unknown":
            return {"status": "not_running", "detail": f"{mine}; {seen}"}
        return {"status": "not_owned", "detail": f"{mine}; {seen}", "pid": seen.pid, "managed": seen.managed}

    def _status(self) -> dict[str, Any]:
        seen = self.observer.check()
        return {
            "running": seen.ready,
            "pid": seen.pid,
            "managed": seen.managed,
            "status": seen.status,
            "detail": str(seen),
            "observed_at": seen.observed_at,
            "age_s": seen.age_s,
        }

    def _manage(self, action: str, wait_s: float) -> dict[str, Any]:
        match action:
            case "start":
                return self._start(wait_s)
            case "stop":
                return self._stop()
            case _:
                return {"error": f"unknown action {action!r}; expected start or stop"}


class DatabaseLifecycleService(_LifecycleService[Any]):
    """Used to start and stop chroma; now only reports its state.

    Args:
        observer: observes the database; by default, the project's.
    """

    def __init__(self, observer: ChromaObserver | None = None) -> None:
        super().__init__(observer or ChromaObserver())

    def start_database(self, wait_s: float = 0.0) -> dict[str, Any]:
        """Wait up to `wait_s` seconds for the database, without starting it. `status` is ``already_running``,
        ``offline`` if it cannot be used, or ``unknown`` if that is not known; `detail` has the command to start it."""
        return self._start(wait_s)

    def stop_database(self) -> dict[str, Any]:
        """Report whether the database is running, without stopping it. `status` is ``not_running`` or ``not_owned``."""
        return self._stop()

    def get_database_status(self) -> dict[str, Any]:
        """Check the database. Returns `running` (it can be used), `pid`, `managed`, `status`, `detail`, `observed_at`
        and `age_s`."""
        return self._status()

    def manage_database(self, action: str, wait_s: float = 0.0) -> dict[str, Any]:
        """Do what the method for ``start`` or ``stop`` does. Any other action returns an `error`."""
        return self._manage(action, wait_s)

    def is_db_running(self) -> bool:
        """Return whether the database can be used now."""
        return self.observer.is_up()

    def wait_for_heartbeat(self, timeout_s: float = HEARTBEAT_S) -> bool:
        """Wait for the database. Return whether it can be used within `timeout_s`."""
        try:
            return self.observer.wait_until_ready(timeout_s).ready
        except NotReady:
            return False


class InferenceLifecycleService(_LifecycleService[Any]):
    """Used to start and stop the inference server; now only reports its state.

    Args:
        observer: observes the server; by default, the project's mlx.
    """

    def __init__(self, observer: MlxObserver | None = None) -> None:
        super().__init__(observer or MlxObserver())

    def start_inference_server(self, wait_s: float = 0.0) -> dict[str, Any]:
        """Like `DatabaseLifecycleService.start_database`."""
        return self._start(wait_s)

    def stop_inference_server(self) -> dict[str, Any]:
        """Like `DatabaseLifecycleService.stop_database`."""
        return self._stop()

    def get_status(self) -> dict[str, Any]:
        """Like `DatabaseLifecycleService.get_database_status`."""
        return self._status()

    def manage_inference(self, action: str, wait_s: float = 0.0) -> dict[str, Any]:
        """Do what the method for ``start`` or ``stop`` does. Any other action returns an `error`."""
        return self._manage(action, wait_s)
