"""Finds what is installed: scripts of this interpreter's environment, programs on PATH, and their versions."""

from __future__ import annotations

import shutil
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
