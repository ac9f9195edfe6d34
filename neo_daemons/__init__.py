"""A portable supervisor for the daemons that AI agents need. See `AgentOrchestrator` and `Client`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import VERSION

if TYPE_CHECKING:
    from .control.client import Client, ControlError, NoSupervisor
    from .orchestrator import AgentOrchestrator

__version__ = VERSION
__all__ = ["AgentOrchestrator", "Client", "ControlError", "NoSupervisor", "__version__"]

_PUBLIC = {
    "AgentOrchestrator": "orchestrator",
    "Client": "control.client",
    "ControlError": "control.client",
    "NoSupervisor": "control.client",
}


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing: the parts come when they are asked for.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
