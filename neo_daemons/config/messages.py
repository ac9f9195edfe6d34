"""The parts of messages: keys, values, and descriptions of the expected types."""

from __future__ import annotations

import json
import re
from datetime import date, time
from typing import Any, Literal, get_args, get_origin

from neo_daemons.urls import redacted_within

from .schema_types import alternatives, unconstrained

INVALID = "invalid value"
ELSEWHERE = {
    "autostart": "enabled",
    "cmd": "command",
    "depends_on": "requires",
    "directory": "cwd",
    "environment": "env",
    "healthcheck": "ready",
    "on_demand": "start",
    "working_dir": "cwd",
}
"""Keys of compose files, other supervisors and our states → what ours are called."""


def may_be_secret(key: str) -> bool:
    """Return whether the value at `key` may be a secret. Terminals, CI logs and bug reports keep messages."""
    return (
        re.match(
            r"daemons\.[^.]+\.(?:env|exports|deploy\.env|(?:deploy\.)?(?:ready|live)(?:\[\d+\])?\.(?:headers|json))\b",
            key,
        )
        is not None
    )


def mask(value: Any) -> str:
    """Return what is not secret in a possibly secret value: true or false, and the references in it."""
    if isinstance(value, bool):
        return show(value)
    if not isinstance(value, str):
        return "***"
    parts = re.split(r"(\$\{[\w.-]*\})", value)
    return show("".join(part if number % 2 else "***" for number, part in enumerate(parts) if part))


def join(key: str, step: str | int) -> str:
    """Return the key of item `step` in the list or table `key`, as TOML writes it."""
    if isinstance(step, int):
        return f"{key}[{step}]"
    quoted = _shorten(step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step, ensure_ascii=False))
    return f"{key}.{quoted}" if key else quoted


def show(value: Any) -> str:
    """Return a value as messages show it: without the credentials in URLs."""
    if isinstance(value, bool):
        return "true" if value else "false"
    # Redacted before it is shortened: shortening may cut off the @ that marks credentials.
    return _shorten(str(value) if isinstance(value, date | time) else redacted_within(repr(value)))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def wanted(kind: Any, key: str) -> str:
    """Describe the type `kind`, expected at `key`, for a message."""
    members = alternatives(kind)
    if len(members) > 1:
        return " or ".join(dict.fromkeys(wanted(member, key) for member in members))
    bare = unconstrained(members[0])
    if get_origin(bare) is Literal:
        *others, last = [f'"{word}"' for word in get_args(bare)]
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(bare) is tuple:
        return "a list, e.g. [200]" if unconstrained(get_args(bare)[0]) is int else 'a list of strings, e.g. ["chroma"]'
    if get_origin(bare) is dict:
        return f"a table [{key}]" if get_args(bare)[1] is Any else 'a table of strings, e.g. { LEVEL = "3" }'
    if bare in (int, float):
        meta = get_args(members[0])[1]
        units = {(float, "s"): "a number of seconds", (int, "bytes"): "a whole number of bytes"}
        noun = units.get((bare, key.rpartition("_")[2]), "a whole number" if bare is int else "a number")
        if meta.le is not None:
            return f"{noun} from {meta.ge} to {meta.le}"
        return f"{noun}, {f'{meta.ge} or more' if meta.ge is not None else f'more than {meta.gt}'}"
    described = next((meta.description for meta in get_args(members[0])[1:] if meta.description), None)
    if described is not None:
        return str(described).removeprefix("use ")
    return {str: "a string in quotes", bool: "true or false"}.get(bare, "a table")


def translate(message: str) -> str:
    """Return a message of msgspec in the terms of TOML."""
    if "of length >= 1" in message:
        return "is empty"
    if re.match("Expected `(int|float)` [<>]", message):
        return "out of range"
    if message.startswith("Invalid") or "matching regex" in message:
        return INVALID
    words = {
        "object": "table",
        "array": "list",
        "str": "string",
        "int": "integer",
        "float": "number",
        "bool": "boolean",
    }
    message = message.replace(" | null", "").replace(" | ", " or ").replace("`", "")
    return re.sub(r"\b(?:object|array|str|int|float|bool)\b", lambda m: words[m[0]], message[0].lower() + message[1:])


REMEDIES = {
    "File.daemons": "add a table for each daemon, e.g. [daemons.chroma]",
    "Settings.command": 'use a list of strings, e.g. ["python", "-m", "http.server"]; there is no shell',
    "ExecProbe.command": 'use a list of strings, e.g. ["test", "-e", "done"]; there is no shell',
    "Settings.ports": 'use a table of names and numbers, e.g. { http = 8000, admin = "auto" }',
    "Settings.ready": 'use a table, e.g. { type = "http", path = "/" }, or a list of such tables',
    "Settings.live": 'use a table, e.g. { type = "http", path = "/" }, or a list of such tables',
    "Settings.groups": 'use a list of names of a-z, 0-9, - and _, starting with a letter, e.g. ["db"]',
    "Settings.requires": 'use a list of names and tables, e.g. ["chroma", { name = "db", cascade = true }]',
    "Settings.stop": 'use a table, e.g. { signal = "SIGINT", grace_s = 5 }',
    "Settings.log": "use a table, e.g. { max_bytes = 1000000, keep = 1 }",
    "Settings.restart": 'use "always", "on-failure", "never", or a table, e.g. { limit = 5, window_s = 600 }',
    "Settings.deploy": 'use a table, e.g. { image = "ghcr.io/me/api:1.0" }',
    "Deploy.command": 'use a list of strings, e.g. ["python3", "-m", "http.server"], or [] for what the image runs',
    "Deploy.env": 'use strings and secrets, e.g. { MODE = "fast", TOKEN = { secret = "api", key = "token" } }',
    "Deploy.ready": 'use a table, e.g. { type = "http", path = "/" }, or a list of such tables',
    "Deploy.live": 'use a table, e.g. { type = "http", path = "/" }, or a list of such tables',
    "Deploy.resources": 'use a table, e.g. { cpu = "500m", memory = "1Gi" }',
    "Deploy.ports": "use a table of names and numbers, e.g. { http = 8000, admin = 8001 }",
    "Settings.external": 'use the URL of the daemon, e.g. "http://host:8000"',
    "HttpProbe.port": 'use the name of one of the daemon\'s ports, e.g. "main", or remove it',
    "TcpProbe.port": 'use the name of one of the daemon\'s ports, e.g. "main", or remove it',
    "type": 'use "http", "tcp", "exec", "file" or "log"',
}
"""Remedies for fields whose type does not explain enough, by the names of the structure and the field."""
