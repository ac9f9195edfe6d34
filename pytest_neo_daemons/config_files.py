"""The configuration files of a project: which one a run uses, and which daemons it names.

Nothing is checked here, and nothing of `neo_daemons` is needed: a run without daemons reads these files, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

FILES = ("neo-daemons.toml", "pyproject.toml")


def stated_configuration(config: pytest.Config) -> Path | None:
    """The configuration file that is asked for: by the option, relative to the working directory; or by the setting,
    relative to its file. Where there is none from the root directory upwards, the only one of the paths given."""
    stated = config.getoption("--neo-daemons-config")
    base: Path = config.invocation_params.dir
    if not stated:
        stated = config.getini("neo_daemons_config")
        base = ini_directory(config)
    if stated:
        return base / str(stated)
    if any(directory_daemons(directory) is not None for directory in (config.rootpath, *config.rootpath.parents)):
        return None
    paths = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    found = {configuration_above(path, config.rootpath) for path in paths}
    return found.pop() if len(found) == 1 else None


def configuration_above(path: Path, root: Path) -> Path | None:
    """The nearest configuration file in the directories of a path that are below the root directory."""
    for directory in (path, *path.parents):
        if root not in directory.parents:
            return None
        for name in FILES:
            if file_daemons(directory / name) is not None:
                return directory / name
    return None


def project_daemons(config: pytest.Config) -> list[str]:
    """The daemons of a project that has a configuration of ours."""
    stated = stated_configuration(config)
    if stated is not None:
        return file_daemons(stated) or []
    found = map(directory_daemons, (config.rootpath, *config.rootpath.parents))
    return next((names for names in found if names is not None), [])


def ini_directory(config: pytest.Config) -> Path:
    """What paths in settings are relative to."""
    return config.inipath.parent if config.inipath is not None else config.rootpath


def directory_daemons(path: Path) -> list[str] | None:
    """The daemons that a directory's configuration names; None if it has none."""
    found = (file_daemons(path / name) for name in FILES)
    return next((names for names in found if names is not None), None)


def file_daemons(path: Path) -> list[str] | None:
    """The daemons that a configuration file names; None if `neo_daemons.config` would not take it for one. What is
    wrong with it is said when it is used."""
    in_pyproject = path.name == "pyproject.toml"
    try:
        data = path.read_bytes()
    except (OSError, ValueError):
        return [] if not in_pyproject and os.path.lexists(path) else None
    if in_pyproject and b"neo_daemons" not in data:
        return None
    import tomllib

    try:
        content: Any = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return []
    if in_pyproject:
        tool = content.get("tool")
        if not isinstance(tool, dict) or "neo_daemons" not in tool:
            return None  # it only mentions our table
        content = tool["neo_daemons"]
    daemons = content.get("daemons") if isinstance(content, dict) else None
    return list(daemons) if isinstance(daemons, dict) else []
