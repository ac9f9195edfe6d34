"""Writes YAML that people read: in the order given, with comments.

No common library writes comments without building its own tree of nodes first, and what is written here is a small part
of the language: every string that could be taken for something else is in double quotes, as in JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?::[A-Za-z0-9_./-]+)*")
WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""What YAML 1.1 takes for something else than a string."""
WIDTH = 100


class Comment(str):
    """A key that is written as a comment before the next key; its value is ignored."""

    __slots__ = ()


def comments(*lines: str) -> dict[str | Comment, None]:
    """Return lines of a comment, for a mapping."""
    found: dict[str | Comment, None] = {Comment(line): None for line in lines}
    return found


def document(value: Mapping[str, Any], *head: str) -> str:
    """Return a document, after a comment of several lines."""
    lines = [_comment(line) for line in head]
    return "\n".join([*lines, *_mapping(value, "")]) + "\n"


def _comment(text: str) -> str:
    return f"# {''.join(c if c.isprintable() else ' ' for c in text)}".rstrip()


def _mapping(value: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for key, item in value.items():
        if isinstance(key, Comment):
            lines.append(f"{indent}{_comment(key)}")
        else:
            lines += _entry(f"{indent}{scalar(key)}:", item, indent)
    return lines


def _entry(start: str, item: Any, indent: str) -> list[str]:
    if isinstance(item, Mapping) and any(not isinstance(key, Comment) for key in item):
        return [start, *_mapping(item, indent + "  ")]
    if isinstance(item, list | tuple) and item:
        line = f"{start} {_flow(item)}"
        if len(line) > WIDTH or any(isinstance(one, Mapping | list | tuple) for one in item):
            return [start, *_sequence(item, indent + "  ")]
        return [line]
    return [f"{start} {_flow(item)}"]


def _sequence(value: list[Any] | tuple[Any, ...], indent: str) -> list[str]:
    lines = []
    for item in value:
        if isinstance(item, Mapping) and item:
            first, *rest = _mapping(item, indent + "  ")
            lines += [f"{indent}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{indent}- {_flow(item)}")
    return lines


def _flow(value: Any) -> str:
    """Return a value in one line."""
    if isinstance(value, Mapping):
        items = [f"{scalar(key)}: {_flow(item)}" for key, item in value.items() if not isinstance(key, Comment)]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return a scalar. A string stays one under YAML 1.1 and 1.2."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    # JSON writes control characters as \u00XX, but not these, which YAML takes for line ends or does not allow.
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", quoted)
