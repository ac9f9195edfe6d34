"""How the daemons that are known by name are found on this machine, each in a module of its own.

What is known of them without looking is in `neo_daemons.config.builtins`. No process is started here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neo_daemons.config.project import Project
from neo_daemons.definitions import Definition, Launch, Unavailable

from . import bridge, chroma, mlx, neural_link

LOCATE: Mapping[str, Callable[[Definition, Project], Launch | Unavailable]] = {
    "chroma": chroma.locate,
    "bridge": bridge.locate,
    "mlx": mlx.locate,
    "neural-link": neural_link.locate,
}
"""For each name in `neo_daemons.config.builtins.BUILTINS`, what finds its program, or says why it cannot run."""


def resolve(definition: Definition, project: Project) -> Launch | Unavailable:
    """How `definition` is run on this machine: by its own command, or as its catalog entry finds it."""
    if definition.builtin is not None and not definition.command:
        return LOCATE[definition.builtin](definition, project)
    return Launch(command=definition.command)
