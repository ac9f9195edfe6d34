"""The daemons that are known by name: chroma, bridge, mlx and neural-link.

Each is a table of settings in the vocabulary of ``neo-daemons.toml``, which a user's own settings override, and a
function that finds its program on this machine. No process is started here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from neo_daemons.definitions import Definition, Launch, Unavailable

from . import bridge, chroma, mlx, neural_link
from .project import Project

__all__ = ["BUILTINS", "Builtin", "Project", "bracketed", "resolve"]


class Builtin(Struct, frozen=True):
    """A catalog entry."""

    summary: str
    settings: Callable[[Mapping[str, str]], dict[str, Any]]
    """Default settings, given the options."""
    locate: Callable[[Definition, Project], Launch | Unavailable]
    options: Mapping[str, str]
    """Keys of its own that its table may have, and what they say."""
    preferred_port: int | None = None
    data_options: frozenset[str] = frozenset()
    """Those of its options that name data, which a session of tests must not share."""
    by_default: bool = True
    """Part of a project that has no configuration."""


BUILTINS: Mapping[str, Builtin] = {
    "chroma": Builtin("vector database", chroma.settings, chroma.locate, {}, chroma.PORT),
    "bridge": Builtin(
        "wake daemon of neo.mjs", bridge.settings, bridge.locate, bridge.OPTIONS, data_options=frozenset({"database"})
    ),
    "mlx": Builtin("OpenAI-compatible local inference", mlx.settings, mlx.locate, mlx.OPTIONS, mlx.PORT),
    "neural-link": Builtin(
        "WebSocket bridge of neo.mjs",
        neural_link.settings,
        neural_link.locate,
        neural_link.OPTIONS,
        neural_link.PORT,
        by_default=False,
    ),
}


def bracketed(definition: Definition) -> Definition:
    """`definition`, with an IPv6 host in brackets where its URLs begin with it: RFC 3986, section 3.2.2."""
    if ":" not in definition.host:
        return definition

    def mend(text: str) -> str:
        return text.replace("://${host}", "://[${host}]")

    url = mend(definition.url) if definition.url is not None else None
    exports = {name: mend(text) for name, text in definition.exports.items()}
    return msgspec.structs.replace(definition, url=url, exports=exports)


def resolve(definition: Definition, project: Project) -> Launch | Unavailable:
    """How `definition` is run on this machine: by its own command, or as its catalog entry finds it."""
    if definition.builtin is not None and not definition.command:
        return BUILTINS[definition.builtin].locate(definition, project)
    return Launch(command=definition.command)
