"""The pytest plugin: ``pytest --neo-daemons`` gives tests real daemons as fixtures. See `plugin`.

This package exports the decorator `seed`; `Daemon`, `Daemons`, `BridgeGraph`, `ChromaDatabase`, `ChromaDatabases`,
`Incident` and `Seed` for annotations; and the exceptions `FaultRefused`, `OnceFailed`, `ProductionFenceError` and
`Unavailable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bridge_graph import BridgeGraph
    from .databases import ChromaDatabase, ChromaDatabases
    from .fence.wall import ProductionFenceError
    from .handles import Daemon, Daemons, FaultRefused
    from .incidents import Incident
    from .once import OnceFailed
    from .seeds import Seed, seed
    from .unavailable import Unavailable

__all__ = [
    "BridgeGraph",
    "ChromaDatabase",
    "ChromaDatabases",
    "Daemon",
    "Daemons",
    "FaultRefused",
    "Incident",
    "OnceFailed",
    "ProductionFenceError",
    "Seed",
    "Unavailable",
    "seed",
]

_PUBLIC = {
    "BridgeGraph": "bridge_graph",
    "ChromaDatabase": "databases",
    "ChromaDatabases": "databases",
    "Daemon": "handles",
    "Daemons": "handles",
    "FaultRefused": "handles",
    "Incident": "incidents",
    "OnceFailed": "once",
    "Seed": "seeds",
    "seed": "seeds",
    "ProductionFenceError": "fence.wall",
    "Unavailable": "unavailable",
}


def __getattr__(name: str) -> Any:
    # An installed but unused plugin must cost nothing, so the modules are imported on demand.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
