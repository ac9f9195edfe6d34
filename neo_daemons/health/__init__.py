"""Read-only observers for programs that use a daemon but must not manage it.

An observer checks one daemon and reports what it found. It starts, stops and writes nothing: this package imports
neither supervision nor a module that could spawn or signal a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bridge import BridgeDetails, BridgeObserver
    from .chroma import ChromaDetails, ChromaObserver
    from .http import HttpDetails, HttpObserver
    from .mlx import MlxDetails, MlxObserver
    from .observation import Details, Observation, Transition
    from .observer import NotReady, Observer, Unhealthy
    from .process import ProcessObserver
    from .project import project_observers
    from .report import HealthReport, acheck_all, check_all
    from .services import DatabaseLifecycleService, InferenceLifecycleService
    from .tcp import TcpObserver

__all__ = [
    "BridgeDetails",
    "BridgeObserver",
    "ChromaDetails",
    "ChromaObserver",
    "DatabaseLifecycleService",
    "Details",
    "HealthReport",
    "HttpDetails",
    "HttpObserver",
    "InferenceLifecycleService",
    "MlxDetails",
    "MlxObserver",
    "NotReady",
    "Observation",
    "Observer",
    "ProcessObserver",
    "TcpObserver",
    "Transition",
    "Unhealthy",
    "acheck_all",
    "check_all",
    "project_observers",
]

_PUBLIC = {
    "BridgeDetails": "bridge",
    "BridgeObserver": "bridge",
    "ChromaDetails": "chroma",
    "ChromaObserver": "chroma",
    "DatabaseLifecycleService": "services",
    "Details": "observation",
    "HealthReport": "report",
    "HttpDetails": "http",
    "HttpObserver": "http",
    "InferenceLifecycleService": "services",
    "MlxDetails": "mlx",
    "MlxObserver": "mlx",
    "NotReady": "observer",
    "Observation": "observation",
    "Observer": "observer",
    "ProcessObserver": "process",
    "TcpObserver": "tcp",
    "Transition": "observation",
    "Unhealthy": "observer",
    "acheck_all": "report",
    "project_observers": "project",
    "check_all": "report",
}


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing, because its modules are imported on demand.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
