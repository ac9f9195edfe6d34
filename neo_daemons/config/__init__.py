"""``neo-daemons.toml`` or ``[tool.neo_daemons]`` in ``pyproject.toml`` → definitions.

What a file may say of a daemon is `Settings` in `schema`; the types there are the checks. Whatever is wrong becomes one
`ConfigError` that names all faults, each with file, key, value and remedy. Paths are made absolute and real here, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration import Configuration, load
    from .errors import ConfigError
    from .locate import find_state_dir

__all__ = ["ConfigError", "Configuration", "find_state_dir", "load"]

_PUBLIC = {
    "ConfigError": "errors",
    "Configuration": "configuration",
    "find_state_dir": "locate",
    "load": "configuration",
}


def __getattr__(name: str) -> Any:
    # Who only looks for a state directory does not load what makes definitions.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
