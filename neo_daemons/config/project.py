"""The project: its directory, the user's cache, and the environment that its daemons inherit."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from msgspec import Struct

from neo_daemons.environment import references
from neo_daemons.paths import real_path
from neo_daemons.state_dir import is_text

CACHE_VARIABLE = "NEO_DAEMONS_CACHE_DIR"
HOMELESS_CACHE = Path("/.cache/neo-daemons")
"""For a user without a home directory, as if that were /: a provision that cannot write there says so."""


class Project(Struct, frozen=True):
    """The project whose daemons these are."""

    root: Path
    """Directory of the configuration; without one, the working directory."""
    cache: Path
    """Where provisions are kept, for all projects of this user."""
    environ: dict[str, str]

    def places(self, state: Path) -> dict[str, str]:
        """Its directories, as references call them; `state` is the state directory."""
        return {"state_dir": str(state), "project": str(self.root), "cache_dir": str(self.cache)}

    def references(self, state: Path) -> dict[str, str]:
        """What all its daemons can refer to: its places, its interpreter, and its environment."""
        return {**self.places(state), **references(self.environ)}


def default_cache(environ: dict[str, str]) -> Path:
    """The user's cache directory for this program, or what ``NEO_DAEMONS_CACHE_DIR`` says. It is only named here: most
    projects keep nothing in it.

    Raises:
        ValueError: it says no path.
    """
    stated = environ.get(CACHE_VARIABLE)
    if stated:
        return real_path(stated)
    try:
        usual = Path(platformdirs.user_cache_dir("neo-daemons"))
    except (RuntimeError, ValueError):
        return HOMELESS_CACHE
    return usual if usual.is_absolute() and is_text(usual) else HOMELESS_CACHE
