"""The project: its directory, the user's cache directory, and the environment that its daemons inherit; and its
configuration, once it has been read."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec import Struct

from neo_daemons.definitions import Definition
from neo_daemons.environment import references
from neo_daemons.paths import real_path
from neo_daemons.state_dir import StateDir, is_text

CACHE_VARIABLE = "NEO_DAEMONS_CACHE_DIR"
HOMELESS_CACHE = Path("/.cache/neo-daemons")
"""For a user without a home directory, as if it were /. A provision that cannot write there reports that."""


class Project(Struct, frozen=True):
    """The project that the daemons belong to."""

    root: Path
    """The directory of the configuration; without one, the working directory."""
    cache: Path
    """The directory that holds provisions, for all projects of this user."""
    environ: dict[str, str]

    def places(self, state: Path) -> dict[str, str]:
        """Return the directories that daemons can refer to, by reference name; `state` is the state directory."""
        return {"state_dir": str(state), "project": str(self.root), "cache_dir": str(self.cache)}

    def references(self, state: Path) -> dict[str, str]:
        """Return what all daemons can refer to: `places`, the interpreter and the environment."""
        return {**self.places(state), **references(self.environ)}


class Configuration(Struct, frozen=True, kw_only=True):
    """The daemons of a project, and where they run."""

    project: Project
    state: StateDir
    source: Path | None
    """The file; None for a project without one."""
    definitions: tuple[Definition, ...]
    parallel: int | None = None
    deprecations: tuple[str, ...] = ()
    """What is said of the deprecated keys that the file has."""


def default_cache(environ: dict[str, str]) -> Path:
    """Return the user's cache directory for this program, or the one that ``NEO_DAEMONS_CACHE_DIR`` names. Nothing is
    created: most projects keep nothing there. A relative ``XDG_CACHE_HOME`` is to be ignored, says the specification.

    Raises:
        ValueError: the variable does not contain a valid path.
    """
    stated = environ.get(CACHE_VARIABLE)
    if stated:
        return real_path(stated)
    caches = environ.get("XDG_CACHE_HOME", "")
    if not caches.startswith("/"):
        caches = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    try:
        usual = Path(caches, "neo-daemons").expanduser()
    except RuntimeError:
        return HOMELESS_CACHE
    return usual if usual.is_absolute() and is_text(usual) else HOMELESS_CACHE
