"""Finds the configuration file that a run uses, and reads the names of its daemons.

This module validates nothing and does not import `neo_daemons`, because a run without daemons uses it, too.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Any

import pytest

FILES = ("neo-daemons.toml", "pyproject.toml")


def stated_configuration(config: pytest.Config) -> Path | None:
    """Return the configuration file given by the option (relative to the working directory) or the setting (relative to
    its file); if there is none from the root directory upwards, the only one above the given paths.

    Raises:
        pytest.UsageError: the option is empty.
    """
    stated = config.getoption("--neo-daemons-config")
    if stated == "":
        raise pytest.UsageError("--neo-daemons-config: empty value; expected a file")
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
    """Return the nearest configuration file above a path, within the root directory."""
    for directory in (path, *path.parents):
        if root not in directory.parents:
            return None
        for name in FILES:
            if file_daemons(directory / name) is not None:
                return directory / name
    return None


def check_option(config: pytest.Config) -> None:
    """Check that the file given by the option can be read.

    Raises:
        pytest.UsageError: it cannot be read, or is not TOML.
    """
    stated = config.getoption("--neo-daemons-config")
    if stated is None:
        return
    path = stated_configuration(config)
    fault = fault_of(path) if path is not None else None
    if fault is not None:
        raise pytest.UsageError(f"--neo-daemons-config {stated}: {fault}")


def fault_of(path: Path) -> str | None:
    """Return why a file is not TOML; None if it is."""
    import tomllib

    try:
        tomllib.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8).decode())
    except OSError as error:
        return f"cannot be read: {error.strerror}; pass an existing, readable file"
    except (ValueError, RecursionError) as error:
        return f"invalid TOML: {error}"
    return None


def project_configuration(config: pytest.Config) -> tuple[Path | None, list[str]]:
    """Return the project's configuration file, if there is one, and the names of the daemons in it."""
    stated = stated_configuration(config)
    if stated is not None:
        return stated, file_daemons(stated) or []
    paths = (directory / name for directory in (config.rootpath, *config.rootpath.parents) for name in FILES)
    found = ((path, file_daemons(path)) for path in paths)
    return next(((path, names) for path, names in found if names is not None), (None, []))


def ini_directory(config: pytest.Config) -> Path:
    """Return the directory to which paths in settings are relative."""
    return config.inipath.parent if config.inipath is not None else config.rootpath


def directory_daemons(path: Path) -> list[str] | None:
    """Return the daemons that a directory's configuration defines; None if it has no configuration."""
    found = (file_daemons(path / name) for name in FILES)
    return next((names for names in found if names is not None), None)


def file_daemons(path: Path) -> list[str] | None:
    """Return the daemons that a configuration file defines; None if `neo_daemons.config` would not regard it as one.
    Its errors are reported when it is used."""
    in_pyproject = path.name == "pyproject.toml"
    try:
        data = path.read_bytes()
    except (OSError, ValueError):
        return [] if not in_pyproject and os.path.lexists(path) else None
    if in_pyproject and b"neo_daemons" not in data:
        return None
    import tomllib

    try:
        content: Any = tomllib.loads(data.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError):
        return []
    if in_pyproject:
        tool = content.get("tool")
        if not isinstance(tool, dict) or "neo_daemons" not in tool:
            return None  # it only mentions our table
        content = tool["neo_daemons"]
    daemons = content.get("daemons") if isinstance(content, dict) else None
    return list(daemons) if isinstance(daemons, dict) else []
