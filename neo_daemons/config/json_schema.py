"""The JSON schema of configuration files, for editors. It is made from the types and shipped as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .source import FILE_NAME, PYPROJECT

FILE = Path(__file__).parent / "neo-daemons.schema.json"


def schema(file_name: str = FILE_NAME) -> dict[str, Any]:
    """Return the schema of a file of this name: in a ``pyproject.toml``, that of the table ``[tool.neo_daemons]``."""
    own: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    if file_name != PYPROJECT:
        return own
    top = {key: own.pop(key) for key in ("$schema", "definitions")}
    tools = {"neo_daemons": {**own, "title": "[tool.neo_daemons]"}, "neo-daemons": False}
    return {**top, "title": PYPROJECT, "properties": {"tool": {"properties": tools}}}
