"""The environment that daemons inherit, and what references call it. It is made here and nowhere else."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping

PREFIX = "env."
"""How references to environment variables begin."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` as a daemon inherits it, before its own ``env``.

    ``PATH`` begins with the programs of this interpreter's environment, activated or not, so that ``python`` and
    ``uvicorn`` are the ones that the tests import. Python daemons write their output at once, not when a buffer is
    full: ``PYTHONUNBUFFERED=1``, unless `environ` has that variable.
    """
    return {"PYTHONUNBUFFERED": "1", **environ, "PATH": search_path(environ.get("PATH"))}


def search_path(path: str | None) -> str:
    """A ``PATH`` that begins with this interpreter's scripts.

    Outside a virtual environment these may be in /usr/bin: if that is on `path` already, its place is left alone, as
    moving it would prefer the system's programs to those that the user has put before them.
    """
    scripts = sysconfig.get_path("scripts")
    directories = (path if path is not None else os.defpath).split(os.pathsep)
    if sys.prefix != sys.base_prefix:
        directories = [directory for directory in directories if directory != scripts]
    elif scripts in directories:
        return os.pathsep.join(directories)
    return os.pathsep.join([scripts, *directories])


def references(environ: Mapping[str, str]) -> dict[str, str]:
    """The values of ``${python}`` and of ``${env.NAME}`` for each variable that daemons inherit."""
    return {"python": sys.executable, **{f"{PREFIX}{name}": value for name, value in inherited(environ).items()}}
