"""Finds what is installed: scripts of this interpreter's environment, programs on PATH, and their versions."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from neo_daemons.config.project import Project
from neo_daemons.environment import search_path


def find_script(name: str, project: Project) -> Path | None:
    """Find a console script: first in this interpreter's environment, then on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.is_file():
        return beside
    return find_program(name, project)


def find_program(name: str, project: Project) -> Path | None:
    """Find a program on PATH. The path is absolute: PATH may contain relative directories, and daemons have their own
    working directory."""
    found = shutil.which(name, path=search_path(project.environ.get("PATH")))
    return Path(found).absolute() if found else None


def installed_version(distribution: str, script: Path) -> str | None:
    """Return the version of a distribution, if `script` belongs to this interpreter's environment."""
    if script.parent != Path(sysconfig.get_path("scripts")):
        return None
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def pip_install(extra: str) -> str:
    """Return the command that installs the packages of one of our extras into this interpreter's environment.

    It names the packages from our metadata instead of the extra, because we may have been installed from a checkout.
    """
    from importlib import metadata

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
