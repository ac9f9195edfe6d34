"""Reads one configuration file into plain tables."""

from __future__ import annotations

import codecs
import contextlib
import re
from pathlib import Path
from typing import Any

from .errors import ConfigError

FILE_NAME = "neo-daemons.toml"
PYPROJECT = "pyproject.toml"
MAX_FILE_BYTES = 1_000_000
MAX_DEPTH = 32
"""How deeply tables and lists may be nested."""


def read(path: Path) -> dict[str, Any]:
    """Return the tables of a file.

    Raises:
        ConfigError: the file cannot be read, or it is not a configuration.
    """
    content = _parse(path)
    if path.name != PYPROJECT:
        return content
    table = _table(content)
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: has no table [tool.neo_daemons]; add one, or pass another file")
    return table


def has_table(pyproject: Path) -> bool:
    """Return whether a ``pyproject.toml`` has the table ``[tool.neo_daemons]``.

    Raises:
        ConfigError: the file mentions this project, but cannot be read or misspells the table.
    """
    with contextlib.suppress(OSError):  # `_parse` reports it
        if not re.search("neo[-_]daemons", pyproject.read_text(encoding="utf-8", errors="replace")):
            return False
    content = _parse(pyproject)
    tool = content.get("tool")
    if _table(content) is None and isinstance(tool, dict) and "neo-daemons" in tool:
        raise ConfigError(f"{pyproject}: tool.neo-daemons: unknown table; use [tool.neo_daemons], with an underscore")
    return _table(content) is not None


def _table(content: dict[str, Any]) -> Any:
    tool = content.get("tool")
    return tool.get("neo_daemons") if isinstance(tool, dict) else None


def key_prefix(source: Path | None) -> str:
    """Return the prefix of each key in messages: the name of our table in a ``pyproject.toml``."""
    return "tool.neo_daemons." if source is not None and source.name == PYPROJECT else ""


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; pass an existing, readable file") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES} bytes; pass a configuration file")
    import tomllib  # a command that finds no file does without

    try:
        return tomllib.loads(data.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; at most {MAX_DEPTH} levels are allowed") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: invalid TOML: {error}") from None
    except ValueError:  # Python's limit for the digits of a number
        raise ConfigError(f"{path}: contains a number with thousands of digits; use a smaller one") from None
