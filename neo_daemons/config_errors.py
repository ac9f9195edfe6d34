"""What is wrong with a configuration: for each fault a line that says where it is and what to do.

msgspec checks values against types, but leaves out the keys of tables and speaks of JSON. Here its findings become the
exact place, the value found there, and a remedy that follows from the type.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
from collections.abc import Mapping
from datetime import date, time
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .urls import redacted_within

MAX_DEPTH = 32


_TOLD = re.compile(r"(.*?)(?: - at `((?:key` in `)?\$(?:\.\w+|\[[\d.]+\])*)`)?", re.DOTALL)
"""What msgspec says of a value: what is wrong, and where. The first may quote any key of the file."""


class ConfigError(Exception):
    """A configuration that cannot be used. ``str()`` is one line for each fault (file, key, value, remedy), after a
    line with their number where there are several."""

    def __init__(self, *faults: str) -> None:
        # Keys and file names may hold line ends and terminal sequences.
        self.faults = tuple("".join(c if c.isprintable() else repr(c)[1:-1] for c in fault) for fault in faults)
        head = [f"the configuration has {len(faults)} faults:"] if len(faults) > 1 else []
        super().__init__("\n".join([*head, *self.faults]))


class Reader:
    """Turns raw tables into typed ones, and collects the faults of a whole file, each with where it is."""

    def __init__(self, source: str, prefix: str) -> None:
        self.source = source
        self.prefix = prefix
        self.faults: list[str] = []

    def fault(self, key: str, value: Any, problem: str, remedy: str) -> None:
        """Keep the line that says what is wrong with the value of a key."""
        shown = "" if value is UNSET else f" = {_mask(value) if _may_be_secret(key) else show(value)}"
        self.faults.append(f"{self.source}: {self.prefix}{key}{shown}: {problem}; {remedy}")

    def raise_faults(self) -> None:
        """Raise what has been found.

        Raises:
            ConfigError: there is something.
        """
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))

    def refuse_unusable(self, value: Any, key: str = "", depth: int = 0) -> bool:
        """Look for values that no key can have; whether there are none."""
        before = len(self.faults)
        if depth > MAX_DEPTH:
            self.fault(key, UNSET, "nested too deeply", f"keep to {MAX_DEPTH} levels")
            return False
        if isinstance(value, float) and not math.isfinite(value):
            self.fault(key, value, "not a finite number", "write an ordinary number, or remove the key")
        if isinstance(value, int) and value.bit_length() > 63:
            self.fault(key, UNSET, "a number of more than 64 bits", "write a smaller one")
        if isinstance(value, str) and "\0" in value:
            self.fault(key, value, "holds a NUL character", "remove that")
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in items:
            self.refuse_unusable(item, join(key, name), depth + 1)
        return len(self.faults) == before

    def convert(self, raw: Any, kind: type[Any], key: str, known: Mapping[str, Any] | None = None) -> Any:
        """`raw` as a `kind`, all of whose fields have defaults; without what is at fault, and is kept as such.
        `known` are the keys that it may have, where these are more than the fields."""
        rest = raw
        while True:
            try:
                return msgspec.convert(rest, kind)
            except msgspec.ValidationError as error:
                told = _TOLD.fullmatch(str(error))
                message, path = told.groups("") if told is not None else (str(error), "")
            # msgspec stops at the first: it is left out, and the rest looked at again.
            rest = copy.deepcopy(rest) if rest is raw else rest
            steps = self._explain(rest, kind, key, message, path, known)
            if not steps:  # it is all of it
                self.raise_faults()
            _remove(rest, steps)

    def _explain(
        self, raw: Any, kind: Any, key: str, message: str, path: str, known: Mapping[str, Any] | None
    ) -> list[str | int]:
        """Keep the fault that msgspec finds in `raw`: `message` at `path`, which leaves out the keys of tables.
        Returns the steps to the least that is to be left out for it."""
        where, value, owner, remedy = key, raw, kind, ""
        steps: list[str | int] = []
        needed = 0
        """So many of the steps lead to the innermost thing that can be left out without another fault."""
        for name, index in re.findall(r"\.(\w+)|\[([\d.]+)\]", path):
            if name:
                owner = _struct(kind, value)
                kind = next((f.type for f in msgspec.structs.fields(owner) if f.encode_name == name), None)
                remedy = _REMEDIES.get(name if kind is None else f"{owner.__name__}.{name}", "")
                remedy = remedy.replace("[daemons.", f"[{self.prefix}daemons.")
                step: str | int = name
                if kind is not None and not _is_required(owner, name):
                    needed = len(steps) + 1
            elif index == "...":
                kind = _parts(kind, dict)[1]
                step = next(k for k, item in value.items() if not fits(item, kind))
                remedy = ""
                needed = len(steps) + 1
            else:
                kind, step = _parts(kind, tuple)[0], int(index)
            steps.append(step)
            where, value = join(where, step), value[step] if name == "" else value.get(name, UNSET)
        if path.startswith("key` in "):
            kind = _parts(kind, dict)[0]
            step = next(k for k in value if not fits(k, kind))
            self.fault(join(where, step), value[step], "not a usable name", get_args(kind)[1].description)
            return [*steps, step]
        field = re.search(r"field `(.*)`", message, re.DOTALL)
        if field and "unknown" in message:
            allowed = list(known) if known is not None and value is raw else _keys(_struct(kind, value))
            self._unknown(where, field[1], value[field[1]], allowed)
            return [*steps, field[1]]
        if field:
            fields = {f.encode_name: f.type for f in msgspec.structs.fields(_struct(kind, value))}
            wanted = f"add it: {_wanted(fields[field[1]], field[1])}" if field[1] in fields else ""
            self.fault(join(where, field[1]), UNSET, "missing", wanted or _REMEDIES["type"])
            return steps[:needed]
        if not remedy and str in map(_bare, _members(kind)):
            if isinstance(value, int | float):
                remedy = "write it in quotes" + ("" if _may_be_secret(where) else f': "{show(value)}"')
            elif value == "":
                remedy = "fill it, or remove the key"
        self.fault(where, value, _translate(message), remedy or f"write {_wanted(kind, self.prefix + where)}")
        return steps[:needed]

    def _unknown(self, where: str, name: str, value: Any, allowed: list[str]) -> None:
        close = difflib.get_close_matches(name, allowed, n=1)
        if close:
            remedy = f"did you mean {close[0]!r}?"
        elif where == "" and isinstance(value, dict):
            remedy = f"did you mean [{self.prefix}{join('daemons', name)}]?"
        else:
            remedy = f"remove it, or use one of: {', '.join(sorted(allowed))}"
        self.fault(join(where, name), value, "unknown key", remedy)


def _is_required(owner: type[Struct], name: str) -> bool:
    return any(field.encode_name == name and field.required for field in msgspec.structs.fields(owner))


def _remove(value: Any, steps: list[str | int]) -> None:
    """Remove what the steps lead to from nested tables and lists."""
    *way, last = steps
    for step in way:
        value = value[step]
    del value[last]


def _may_be_secret(key: str) -> bool:
    """Whether the value belongs in no message: terminals, logs of CI and bug reports keep those."""
    return re.match(r"daemons\.[^.]+\.(?:env|exports|(?:ready|live)(?:\[\d+\])?\.(?:headers|json))\b", key) is not None


def _mask(value: Any) -> str:
    """Of a value that may be secret what cannot be: whether it is true, and the references in it."""
    if isinstance(value, bool):
        return show(value)
    if not isinstance(value, str):
        return "***"
    parts = re.split(r"(\$\{[\w.-]*\})", value)
    return show("".join(part if number % 2 else "***" for number, part in enumerate(parts) if part))


def join(key: str, step: str | int) -> str:
    """The key of what is at `step` in the list or table `key`, as TOML writes it."""
    if isinstance(step, int):
        return f"{key}[{step}]"
    quoted = _shorten(step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step, ensure_ascii=False))
    return f"{key}.{quoted}" if key else quoted


def show(value: Any) -> str:
    """A value, for a message: without the credentials in URLs."""
    if isinstance(value, bool):
        return "true" if value else "false"
    # Redacted before it is shortened: shortening may cut off the @ that marks credentials.
    return _shorten(str(value) if isinstance(value, date | time) else redacted_within(repr(value)))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def fits(value: Any, kind: Any) -> bool:
    """Whether `value` is a `kind`."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _bare(kind: Any) -> Any:
    """A type without its constraints."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _members(kind: Any) -> list[Any]:
    """The types of a union; None is not for files."""
    if get_origin(kind) in (Union, UnionType):
        return [member for part in get_args(kind) for member in _members(part)]
    return [] if kind in (NoneType, UnsetType) else [kind]


def _parts(kind: Any, container: type[Any]) -> tuple[Any, ...]:
    """The types of what is in a list (its items first) or a table (names, values)."""
    return get_args(next(bare for bare in map(_bare, _members(kind)) if get_origin(bare) is container))


def _struct(kind: Any, value: Any) -> type[Struct]:
    """The structure that `value` is taken for."""
    structs = [k for k in _members(kind) if isinstance(k, type) and issubclass(k, Struct)]
    return next((s for s in structs if s.__struct_config__.tag == value.get("type")), structs[0])


def _keys(struct: type[Struct]) -> list[str]:
    tag = struct.__struct_config__.tag_field
    return [*([tag] if tag else []), *(f.encode_name for f in msgspec.structs.fields(struct))]


def _wanted(kind: Any, key: str) -> str:
    """What to write where a `kind` belongs."""
    members = _members(kind)
    if len(members) > 1:
        return " or ".join(dict.fromkeys(_wanted(member, key) for member in members))
    bare = _bare(members[0])
    if get_origin(bare) is Literal:
        *others, last = [f'"{word}"' for word in get_args(bare)]
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(bare) is tuple:
        return "a list, e.g. [200]" if _bare(get_args(bare)[0]) is int else 'a list of strings, e.g. ["chroma"]'
    if get_origin(bare) is dict:
        return f"a table [{key}]" if get_args(bare)[1] is Any else 'a table of strings, e.g. { LEVEL = "3" }'
    if bare in (int, float):
        meta = get_args(members[0])[1]
        units = {(float, "s"): "a number of seconds", (int, "bytes"): "a whole number of bytes"}
        noun = units.get((bare, key.rpartition("_")[2]), "a whole number" if bare is int else "a number")
        if meta.le is not None:
            return f"{noun} from {meta.ge} to {meta.le}"
        return f"{noun}, {f'{meta.ge} or more' if meta.ge is not None else f'more than {meta.gt}'}"
    return {str: "a string in quotes", bool: "true or false"}.get(bare, "a table")


def _translate(message: str) -> str:
    """msgspec's words in those of TOML."""
    if "of length >= 1" in message:
        return "is empty"
    if message.startswith("Invalid"):
        return "not one of the words known here"
    words = {
        "object": "table",
        "array": "list",
        "str": "string",
        "int": "integer",
        "float": "number",
        "bool": "boolean",
    }
    message = message.replace(" | null", "").replace("`", "")
    return re.sub(r"\b(?:object|array|str|int|float|bool)\b", lambda m: words[m[0]], message[0].lower() + message[1:])


_REMEDIES = {
    "File.daemons": "write one table for each daemon, e.g. [daemons.chroma]",
    "Settings.command": 'write a list of strings, e.g. ["python", "-m", "http.server"]; there is no shell',
    "ExecProbe.command": 'write a list of strings, e.g. ["test", "-e", "done"]; there is no shell',
    "Settings.ports": 'write a table of names and numbers, e.g. { http = 8000, admin = "auto" }',
    "Settings.ready": 'write a table, e.g. { type = "http", path = "/" }, or a list of such',
    "Settings.live": 'write a table, e.g. { type = "http", path = "/" }, or a list of such',
    "Settings.stop": 'write a table, e.g. { signal = "SIGINT", grace_s = 5 }',
    "Settings.log": "write a table, e.g. { max_bytes = 1000000, keep = 1 }",
    "Settings.restart": 'write "always", "on-failure", "never", or a table such as { limit = 5, window_s = 600 }',
    "Settings.external": 'write the URL of a daemon that runs elsewhere, e.g. "http://host:8000"',
    "HttpProbe.port": 'write the name of one of the daemon\'s ports, e.g. "main", or remove it',
    "TcpProbe.port": 'write the name of one of the daemon\'s ports, e.g. "main", or remove it',
    "type": 'write "http", "tcp", "exec", "file" or "log"',
}
