"""Isolates the definitions of a test session from production: no shared data, no shared ports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from neo_daemons.definitions import Definition, Port
from neo_daemons.references import names, texts
from neo_daemons.state_dir import StateDir

from .builtins import BUILTINS, HTTP_URL


def without_data_options(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a daemon without the options that name data."""
    builtin = BUILTINS.get(name)
    return {key: value for key, value in table.items() if builtin is None or key not in builtin.data_options}


def isolate(definition: Definition, state: StateDir, environ: Mapping[str, str]) -> Definition:
    """Return a definition that shares neither data nor ports with the given one, and that logs errors only, where the
    program of a built-in daemon can be told so and neither the definition nor `environ` says otherwise.

    Args:
        state: the session's state directory, which holds the data instead.
    """
    if definition.external:
        return definition
    url = definition.url
    if definition.command and url == HTTP_URL:
        url = None  # the default of a built-in daemon says nothing of a program that takes its place
    own = (definition.command, definition.env, url)
    referred = {name for _, text in texts(own) for name in names(text)}
    first = next(iter(definition.ports), None)
    if "port" in referred:
        referred.add(f"ports.{first}")
    builtin = definition.builtin is not None and not definition.command
    ports = {
        name: Port() if builtin or f"ports.{name}" in referred else port for name, port in definition.ports.items()
    }
    data = state.data if definition.user is None else state.open_data
    data_dir = str(data / definition.name) if definition.data_dir is not None else None
    quiet = BUILTINS[definition.builtin].quiet if definition.builtin is not None and not definition.command else {}
    env = {name: value for name, value in quiet.items() if name not in environ} | definition.env
    return msgspec.structs.replace(definition, ports=ports, data_dir=data_dir, env=env)
