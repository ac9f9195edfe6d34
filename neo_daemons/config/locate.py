"""Finds a project: its configuration file, its root and its state directory.

Commands that only talk to a supervisor import nothing else of the configuration. An invalid configuration must not
prevent anyone from stopping a supervisor.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from neo_daemons.paths import canonical, holds, real_path, working_directory
from neo_daemons.state_dir import DEFAULT_NAME, ENVIRONMENT_VARIABLE, StateDir, StateDirError, refuse_foreign_links

from .errors import ConfigError
from .source import FILE_NAME, PYPROJECT, has_table, key_prefix, read


def find_state_dir(state_dir: Path | None = None, *, file: Path | None = None) -> StateDir:
    """Find the state directory without looking at anything else in the configuration.

    Args:
        state_dir: overrides ``NEO_DAEMONS_STATE_DIR``, which overrides the file.
        file: the configuration; by default the nearest one from the working directory up.

    Raises:
        ConfigError: the file cannot be read, and the default directory has no supervisor.
    """
    environment, options = dict(os.environ), options_for(state_dir, file)
    if state_dir is not None or environment.get(ENVIRONMENT_VARIABLE):
        return StateDir(stated_dir(state_dir, environment, None, None, None), options=options)
    source, root = find_source(file)
    try:
        stated = read(source).get("state_dir") if source is not None else None
    except ConfigError:
        usual = StateDir(root / DEFAULT_NAME, options=options)
        if usual.record.exists():
            return usual
        raise
    stated = stated if isinstance(stated, str) else None
    return StateDir(stated_dir(None, environment, stated, root, source), options=options)


def options_for(state_dir: Path | None, file: Path | None) -> list[str | Path]:
    """Return the options that make another command find what these options, given to one, lead to."""
    given = {"--state-dir": state_dir, "--config": file}
    return [part for option, value in given.items() if value is not None for part in (option, value)]


def find_source(file: Path | None = None, directory: Path | None = None) -> tuple[Path | None, Path]:
    """Find the configuration file (None if there is none) and the project's root.

    Args:
        file: use this one; otherwise look for the nearest from `directory` (by default the working directory) up.

    Raises:
        ConfigError: the path of `file` is invalid, or a file on the way cannot be read.
    """
    return _find(directory) if file is None else _given(file)


def _given(file: Path) -> tuple[Path, Path]:
    """Return the given configuration file and the project's root."""
    try:
        source = real_path(file)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; pass an existing, readable file") from None
    return source, source.parent


def _find(start: Path | None) -> tuple[Path | None, Path]:
    """Return the configuration file and the project's root.

    The root is the nearest directory, from `start` up, that has a configuration; without any, the nearest one that a
    supervisor has used before; otherwise `start`.
    """
    try:
        start = canonical((start or working_directory()).resolve())
    except ValueError as error:
        raise ConfigError(f"{error}, or pass a configuration file") from None
    for directory in (start, *start.parents):
        if os.path.lexists(directory / FILE_NAME):  # even if it is not a file: reading it reports that
            return directory / FILE_NAME, directory
        if holds((directory / PYPROJECT).is_file) and has_table(directory / PYPROJECT):
            return directory / PYPROJECT, directory
    for directory in (start, *start.parents):
        if holds((directory / DEFAULT_NAME / "journal.jsonl").is_file):
            return None, directory
    return None, start


def stated_dir(
    argument: Path | None, environ: Mapping[str, str], stated: str | None, root: Path | None, source: Path | None
) -> Path:
    """Return the state directory that the argument, the environment or the file states, in this order, or the default.

    Args:
        stated: the value of the key in the file `source`.
        root: the project's root.

    Raises:
        ConfigError: the path is invalid, it leads to or through something else than a directory, or through a link that
            belongs to another user.
    """
    variable = environ.get(ENVIRONMENT_VARIABLE)
    if argument is not None:
        place, text, base = f"--state-dir {argument}", str(argument), None
    elif variable:
        place, text, base = f"{ENVIRONMENT_VARIABLE}={variable}", variable, None
    elif stated:
        place, text, base = f"{source}: {key_prefix(source)}state_dir = {stated!r}", stated, root
    else:
        place, text, base = f"the state directory of {root}", DEFAULT_NAME, root
    try:
        real = real_path(text, base)
        named = Path(text).expanduser()
        refuse_foreign_links(named if named.is_absolute() else (base or Path.cwd()) / named)
    except StateDirError as error:
        raise ConfigError(f"{place}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{place}: {error}; use an existing directory or a new path") from None
    for step in (real, *real.parents):
        if holds(step.exists):
            if not step.is_dir():
                raise ConfigError(f"{place}: {step} is not a directory; use an existing directory or a new path")
            break
    return real
