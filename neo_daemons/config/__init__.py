"""Reads ``neo-daemons.toml``, or ``[tool.neo_daemons]`` in ``pyproject.toml``, and builds definitions from it.

`schema` lists what a file may contain. If anything is wrong, one `ConfigError` lists all errors, each with file, key,
value and remedy. The names here are public; everything else imports the modules.
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
    # Finding a state directory does not load the modules that build definitions.
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
