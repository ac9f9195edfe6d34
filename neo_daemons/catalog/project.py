"""Where a catalog entry may look: the project's directory and the user's cache."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import platformdirs
from msgspec import Struct

from neo_daemons.environment import references, search_path
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

    def references(self) -> dict[str, str]:
        """What all its daemons can refer to: its places, its interpreter, and its environment."""
        return {"project": str(self.root), "cache_dir": str(self.cache), **references(self.environ)}


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


def real_path(path: str | Path, base: Path | None = None) -> Path:
    """A path, relative to `base` (by default the working directory) or "~", made absolute and without links.

    Raises:
        ValueError: there is no such path (an unknown "~user", a loop of links, no working directory any more), or it
            is not UTF-8. ``str()`` says which.
    """
    try:
        stated = Path(path).expanduser()
        if not stated.is_absolute():
            stated = (base or working_directory()) / stated
        real = stated.resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError("there is no such home directory" if "home directory" in str(error) else str(error)) from None
    if not is_text(real):
        raise ValueError("the path is not UTF-8")
    return real


def working_directory() -> Path:
    """The working directory.

    Raises:
        ValueError: it has been deleted.
    """
    try:
        return Path.cwd()
    except OSError:
        raise ValueError("the working directory has been deleted; change to another directory") from None


def find_script(name: str, project: Project) -> Path | None:
    """A console script: of this interpreter's environment first, then on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.is_file():
        return beside
    return find_program(name, project)


def find_program(name: str, project: Project) -> Path | None:
    """A program on PATH, absolute: PATH may hold relative directories, and a daemon's working directory is its own."""
    found = shutil.which(name, path=search_path(project.environ.get("PATH")))
    return Path(found).absolute() if found else None


def installed_version(distribution: str, script: Path) -> str | None:
    """Version of a distribution, if `script` belongs to this interpreter's environment."""
    if script.parent != Path(sysconfig.get_path("scripts")):
        return None
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def pip_install(extra: str) -> str:
    """The command that adds what an extra of ours needs to this interpreter's environment.

    It names the packages, as our own metadata has them, and not the extra: we may have been installed from a checkout.
    """
    from packaging.requirements import Requirement

    stated = [Requirement(text) for text in metadata.requires("neo-daemons") or ()]
    wanted = [
        f"{one.name}{'[' + ','.join(sorted(one.extras)) + ']' if one.extras else ''}{one.specifier}"
        for one in stated
        if one.marker is not None and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
    ]
    python = shlex.quote(sys.executable)
    # Environments of uv have no pip.
    has_pip = importlib.util.find_spec("pip") is not None
    command = f"{python} -m pip install" if has_pip else f"uv pip install --python {python}"
    return " ".join([command, *(f'"{one}"' for one in wanted)])
