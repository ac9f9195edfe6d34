"""Definitions for a session of tests, which has nothing in common with a daemon that is in use."""

from __future__ import annotations

from typing import Any

import msgspec

from neo_daemons.definitions import Definition, Port
from neo_daemons.references import names, texts
from neo_daemons.state_dir import StateDir

from .builtins import BUILTINS


def without_data_options(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """The table of a daemon without the options that name data."""
    builtin = BUILTINS.get(name)
    return {key: value for key, value in table.items() if builtin is None or key not in builtin.data_options}


def isolate(definition: Definition, state: StateDir) -> Definition:
    """A definition that shares neither data nor ports with the one it is made from."""
    if definition.external:
        return definition
    own = (definition.command, definition.env, definition.url)
    referred = {name for _, text in texts(own) for name in names(text)}
    first = next(iter(definition.ports), None)
    if "port" in referred:
        referred.add(f"ports.{first}")
    builtin = definition.builtin is not None and not definition.command
    ports = {
        name: Port() if builtin or f"ports.{name}" in referred else port for name, port in definition.ports.items()
    }
    data_dir = str(state.data_dir(definition.name)) if definition.data_dir is not None else None
    return msgspec.structs.replace(definition, ports=ports, data_dir=data_dir)
