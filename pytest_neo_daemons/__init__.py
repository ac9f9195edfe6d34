"""The pytest plugin: ``pytest --neo-daemons`` gives tests real daemons as fixtures. See `plugin`.

This package exports `Daemon`, `Daemons`, `BridgeGraph` and `Incident` for annotations, and the exceptions
`FaultRefused`, `ProductionFenceError` and `Unavailable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bridge_graph import BridgeGraph
    from .fence.wall import ProductionFenceError
    from .handles import Daemon, Daemons, FaultRefused
    from .incidents import Incident
    from .sessions import Unavailable

__all__ = ["BridgeGraph", "Daemon", "Daemons", "FaultRefused", "Incident", "ProductionFenceError", "Unavailable"]

_PUBLIC = {
    "BridgeGraph": "bridge_graph",
    "Daemon": "handles",
    "Daemons": "handles",
    "FaultRefused": "handles",
    "Incident": "incidents",
    "ProductionFenceError": "fence.wall",
    "Unavailable": "sessions",
}


def __getattr__(name: str) -> Any:
    # An installed but unused plugin must cost nothing, so the modules are imported on demand.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
