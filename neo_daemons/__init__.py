"""A portable supervisor for the daemons that AI agents need. See `AgentOrchestrator` and `Client`.

PYTEST_DONT_REWRITE: see `pytest_neo_daemons`.
"""

from .version import VERSION

# Imports nothing from the standard library: when `python -m neo_daemons` runs this, a file in the working directory
# could still shadow a module. Type checkers treat this name as that of `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .control.client import Client, ControlError, NoSupervisor, Unreachable
    from .orchestrator import AgentOrchestrator

__version__ = VERSION
__all__ = ["AgentOrchestrator", "Client", "ControlError", "NoSupervisor", "Unreachable", "__version__"]

_PUBLIC = {
    "AgentOrchestrator": "orchestrator",
    "Client": "control.client",
    "ControlError": "control.client",
    "NoSupervisor": "control.client",
    "Unreachable": "control.client",
}


def __getattr__(name: str) -> object:
    # Importing the package is cheap: the parts are imported when they are used.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
