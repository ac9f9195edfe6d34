"""Finds the programs of the built-in daemons on this machine; each daemon has a module.

Their default settings are in `neo_daemons.config.builtins`. Nothing here starts a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch

from . import bridge, chroma, mlx, neural_link

LOCATE: Mapping[str, Callable[[Definition, Project], Launch | CannotRun]] = {
    "chroma": chroma.locate,
    "bridge": bridge.locate,
    "mlx": mlx.locate,
    "neural-link": neural_link.locate,
}
"""For each name in `neo_daemons.config.builtins.BUILTINS`, the function that finds its program."""


def resolve(definition: Definition, project: Project) -> Launch | CannotRun:
    """Return how to run `definition` on this machine: by its own command, or as the catalog finds it."""
    if definition.builtin is not None and not definition.command:
        return LOCATE[definition.builtin](definition, project)
    return Launch(command=definition.command)
