"""Locates chroma, the vector database: ``chroma run`` of the installed chromadb."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.extras import pip_install
from neo_daemons.references import escape

from .installed import find_script, installed_version

SETTINGS_FILE = "${data_dir}/.neo-daemons-settings.yaml"
OWN_SETTINGS = {
    "CHROMA_PORT": "${port}",
    "CHROMA_LISTEN_ADDRESS": "${host}",
    "CHROMA_PERSIST_PATH": "${data_dir}",
}
"""chroma takes either these as arguments or a configuration file, and prefers variables to the file."""


def locate(definition: Definition, project: Project) -> Launch | CannotRun:
    """Find the ``chroma`` script."""
    script = find_script("chroma", project)
    if script is None:
        return CannotRun(
            reason="chromadb is not installed in this environment, and chroma is not on PATH",
            remedy=pip_install("chroma"),
            missing=True,
        )
    # Always pass the host: "localhost" is IPv4 on one machine and IPv6 on the next.
    arguments: tuple[str, ...] = ("run", "--path", "${data_dir}", "--host", "${host}", "--port", "${port}")
    # chroma uses its arguments, but fails if this variable of the project or of a .env file is not a port.
    env = {"CHROMA_SERVER_HTTP_PORT": "${port}"}
    files = {}
    if definition.settings:
        arguments = ("run", SETTINGS_FILE)
        env |= {**dict(variables(definition.settings)), **OWN_SETTINGS}
        # JSON is YAML, too.
        files[SETTINGS_FILE] = escape(json.dumps(definition.settings, indent=2, sort_keys=True))
    return Launch(
        command=(escape(str(script)), *arguments),
        env=env,
        version=installed_version("chromadb", script),
        files=files,
    )


def variables(settings: Mapping[str, Any], prefix: str = "CHROMA_") -> Iterator[tuple[str, str]]:
    """Yield the variables that chroma prefers to a file of these settings: the user's shell may have others."""
    for name, value in settings.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(value, dict):
            yield from variables(value, f"{variable}__")
        else:
            yield variable, escape(json.dumps(value))
