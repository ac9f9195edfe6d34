"""Asks the JSON schema whether it accepts a file."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

import jsonschema

from neo_daemons.config.json_schema import schema


@functools.cache
def validator(file_name: str) -> jsonschema.Draft7Validator:
    """Return what checks a file of this name against its schema."""
    return jsonschema.Draft7Validator(schema(file_name))


def objections(text: str | bytes, file_name: str = "neo-daemons.toml") -> list[str]:
    """Return what the schema refuses in a file with this content: each with its place."""
    content = tomllib.loads(text if isinstance(text, str) else text.decode())
    return [f"{error.json_path}: {error.message}" for error in validator(Path(file_name).name).iter_errors(content)]
