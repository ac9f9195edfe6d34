"""Builds the environment that daemons inherit, and the references to it. No other module does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from .interpreter import installed_modules

PREFIX = "env."
"""The prefix of references to environment variables."""
OF_SERVICE_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""Variables by which systemd has its own child report to it: sd_notify(3), sd_watchdog_enabled(3)."""


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` as a daemon inherits it, before its own ``env``.

    ``PATH`` begins with the programs of this interpreter's environment, activated or not, so that ``python`` and
    ``uvicorn`` are the ones that the tests import. Python daemons write their output immediately instead of buffering
    it: ``PYTHONUNBUFFERED=1``, unless `environ` has that variable. A daemon does not report to the service manager of
    its supervisor.
    """
    kept = {name: value for name, value in environ.items() if name not in OF_SERVICE_MANAGER}
    return {"PYTHONUNBUFFERED": "1", **kept, "PATH": search_path(environ.get("PATH"))}


def search_path(path: str | None) -> str:
    """Return a ``PATH`` that begins with this interpreter's scripts.

    Outside a virtual environment these may be in /usr/bin. If that is already on `path`, it keeps its place: moving it
    would prefer the system's programs to those that the user has put before them.
    """
    ours = _scripts()
    directories = (path if path is not None else os.defpath).split(os.pathsep)
    if sys.prefix != sys.base_prefix:
        directories = [directory for directory in directories if directory != ours]
    elif ours in directories:
        return os.pathsep.join(directories)
    return os.pathsep.join([ours, *directories])


def _scripts() -> str:
    """Return the directory of this interpreter's programs."""
    if sys.prefix != sys.base_prefix:
        return os.path.join(os.path.normpath(sys.prefix), "bin")  # as sysconfig says, which loads a lot to do so
    with installed_modules():
        import sysconfig

    return sysconfig.get_path("scripts")


def references(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of ``${python}`` and of ``${env.NAME}`` for each variable that daemons inherit."""
    return {"python": sys.executable, **{f"{PREFIX}{name}": value for name, value in inherited(environ).items()}}
