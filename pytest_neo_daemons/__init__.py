"""The pytest plugin: ``pytest --neo-daemons`` gives tests real daemons as fixtures. See `plugin`.

This package exports the decorator `seed`; `Daemon`, `Daemons`, `BridgeGraph`, `ChromaDatabase`, `ChromaDatabases`,
`Incident` and `Seed` for annotations; and the exceptions `FaultRefused`, `OnceFailed`, `ProductionFenceError` and
`Unavailable`.

PYTEST_DONT_REWRITE: see `_Unrewritten`.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
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


class _Unrewritten:
    """Finds our modules before pytest does, which would rewrite their assertions. Whether it has done so already, it
    finds out at each import in each run, by reading and hashing the source: longer than the rest of the import takes.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        ours = name.partition(".")[0] in ("pytest_neo_daemons", "neo_daemons")
        return PathFinder.find_spec(name, path, target) if ours else None


if "pytest" in sys.modules:
    sys.meta_path.insert(0, _Unrewritten)
