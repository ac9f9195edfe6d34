"""Finds, reads and checks the configuration of a project."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import UNSET

from neo_daemons import deprecations
from neo_daemons.state_dir import StateDir, is_text

from .build import build
from .builtins import BUILTINS
from .errors import ConfigError
from .isolate import isolate, without_data_options
from .locate import find_source, options_for, stated_dir
from .messages import join
from .project import CACHE_VARIABLE, Configuration, Project, default_cache
from .reader import Reader
from .schema import File
from .source import key_prefix, read

__all__ = ["Configuration", "load"]


def load(
    file: Path | None = None,
    *,
    state_dir: Path | None = None,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    isolated: bool = False,
    observing: bool = False,
) -> Configuration:
    """Find and read the configuration.

    Args:
        file: read this one; else ``neo-daemons.toml`` or a ``pyproject.toml`` with ``[tool.neo_daemons]`` in
            `directory` or the nearest directory above it that has one.
        state_dir: overrides ``NEO_DAEMONS_STATE_DIR``, which overrides the file.
        directory: where to start searching, by default the working directory.
        isolated: give every daemon a data directory in the state directory, a database there, and any free port, so
            that it shares nothing with a daemon in use. A port that the command does not refer to stays.
        observing: nothing will be started, so environment variables that are not set are not an error.

    Raises:
        ConfigError: the configuration cannot be used; it lists all errors.
    """
    environment = dict(os.environ if environ is None else environ)
    source, root = find_source(file, directory)
    if not is_text(root):
        raise ConfigError(f"{root}: the path of the project is not UTF-8; rename the directory")
    raw = read(source) if source is not None else {}
    reader = Reader(str(source) if source is not None else "built-in defaults", key_prefix(source))
    usable, broken = _usable(raw, reader)
    content: File = reader.convert(usable, File, "")
    state, cache = root, root
    try:
        state = stated_dir(state_dir, environment, content.state_dir, root, source)
    except ConfigError as error:
        reader.faults += error.faults
    try:
        cache = default_cache(environment)
    except ValueError as error:
        reader.faults.append(f"{CACHE_VARIABLE}={environment[CACHE_VARIABLE]}: {error}; set it to a directory")
    project = Project(root=root, cache=cache, environ=environment)
    if content.daemons is UNSET:
        tables: dict[str, dict[str, Any]] = {name: {} for name, builtin in BUILTINS.items() if builtin.by_default}
    else:
        # A table that was dropped because of errors keeps its name, which others may refer to.
        broken |= raw["daemons"].keys() - content.daemons.keys()
        tables = {name: content.daemons.get(name, {}) for name in raw["daemons"]}
        if not tables:
            remedy = f"add a table, e.g. [{reader.prefix}daemons.chroma], or remove it"
            reader.fault("daemons", {}, "defines no daemon", remedy)
    if isolated:
        tables = {name: without_data_options(name, table) for name, table in tables.items()}
    definitions = build(tables, broken, reader=reader, project=project, state=state, observing=observing)
    reader.raise_faults()
    if isolated:
        definitions = tuple(isolate(definition, StateDir(state), environment) for definition in definitions)
    return Configuration(
        project=project,
        state=StateDir(state, options=options_for(state_dir, file)),
        source=source,
        definitions=definitions,
        parallel=content.parallel,
        deprecations=tuple(deprecations.of_keys(raw, f"{reader.source}: {reader.prefix}")),
    )


def _usable(raw: dict[str, Any], reader: Reader) -> tuple[dict[str, Any], set[str]]:
    """Return a file's content without values that no key can have, and the names of daemons that lost their table."""
    content = {key: value for key, value in raw.items() if key != "daemons" or not isinstance(value, dict)}
    content = {key: value for key, value in content.items() if reader.refuse_unusable(value, key, 1)}
    broken: set[str] = set()
    if isinstance(tables := raw.get("daemons"), dict):
        broken = {name for name, table in tables.items() if not reader.refuse_unusable(table, join("daemons", name), 2)}
        content["daemons"] = {name: {} if name in broken else table for name, table in tables.items()}
    return content, broken
