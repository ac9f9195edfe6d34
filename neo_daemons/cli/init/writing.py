"""The text of a new configuration file."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from .draft import Draft

WIDTH = 100
HEAD = """\
#:schema ./{schema}
# The daemons of this project: `neo-daemons up` starts them, and `pytest --neo-daemons` gives them to tests.
# All keys: `neo-daemons schema`, and docs/configuration.md of neo-daemons.
"""
NOTHING = """
# Nothing here says what this project runs, so chroma, bridge and mlx run, as without this file.
# A table for each daemon takes their place:

# [daemons.chroma]              # built in: every key is optional

# [daemons.api]                 # your own: only the command is required
# command = ["python", "-m", "http.server", "--bind", "${host}", "${port}"]
# port = "auto"
# ready = { type = "http", path = "/" }
"""
BARE = re.compile(r"[A-Za-z0-9_-]+")


def text(drafts: Iterable[Draft], notes: Iterable[str], schema: str) -> str:
    """Return the file.

    Args:
        notes: what could not be carried over, and belongs to no daemon.
        schema: the name of the file with the schema.
    """
    parts = [HEAD.format(schema=schema)]
    if lines := "".join(comment(note) for note in notes):
        parts.append(f"\n{lines}")
    drafts = list(drafts)
    if not any(draft.active for draft in drafts):
        parts.append(NOTHING)
    return "".join([*parts, *map(_table, drafts)])


def comment(remark: str) -> str:
    """Return a remark as lines of comments."""
    plain = "".join(character if character.isprintable() else " " for character in remark)
    lines = textwrap.wrap(plain, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    return "".join(f"# {line}\n" for line in lines)


def _table(draft: Draft) -> str:
    lines = [f"[daemons.{draft.name}]"]
    for key, item in sorted(draft.table.items(), key=lambda pair: pair[0] != "command"):
        lines += _setting(key, item)
    mark = "" if draft.active else "# "
    body = "".join(f"{mark}{line}\n" for line in lines)
    return "\n" + comment(draft.source) + "".join(map(comment, draft.remarks)) + body


def _setting(key: str, item: Any) -> list[str]:
    one = f"{key} = {value(item)}"
    if len(one) <= WIDTH or not isinstance(item, list | dict):
        return [one]
    if isinstance(item, dict):  # an inline table is one line
        return [f"{key}.{_key(name)} = {value(part)}" for name, part in item.items()]
    return [f"{key} = [", *(f"    {value(part)}," for part in item), "]"]


def value(item: Any) -> str:
    """Return a value as TOML."""
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{_key(name)} = {value(part)}" for name, part in item.items()) + " }"
    if isinstance(item, list):
        return "[" + ", ".join(map(value, item)) + "]"
    return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else value(name)
