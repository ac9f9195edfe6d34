"""The reference of the configuration's keys, from the types of the schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, UnsetType

from neo_daemons.config.builtins import BUILTINS
from neo_daemons.config.schema import File, Requirement, Settings
from neo_daemons.config.schema_types import alternatives
from neo_daemons.definitions import AnyProbe, Deploy, Log, Resources, Restart, Secret, Stop

from .source import code, find, markdown, one_line, table, text_of

TABLES: Mapping[str, type[Struct]] = {
    "The file": File,
    "A daemon": Settings,
    "An entry of requires": Requirement,
    "restart": Restart,
    "stop": Stop,
    "log": Log,
    "deploy": Deploy,
    "deploy.resources": Resources,
    "A secret in deploy.env": Secret,
}
PROBES: tuple[type[Struct], ...] = get_args(AnyProbe)
ELSEWHERE: Mapping[type[Struct], str] = {
    Restart: "[restart](#restart) table",
    Stop: "[stop](#stop) table",
    Log: "[log](#log) table",
    Deploy: "[deploy](#deploy) table",
    Resources: "[resources](#deployresources) table",
    Secret: "[secret](#a-secret-in-deployenv) table",
    Requirement: "[requirement](#an-entry-of-requires) table",
}
NOTHING = "none"
SPOKEN = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def page() -> str:
    """Return the page."""
    parts = [
        "# Keys of the configuration",
        "Every key of `neo-daemons.toml`, and of `[tool.neo_daemons]` in `pyproject.toml`, with its type and default, "
        "from the types that check the file. [Configuration](../configuration.md) says what the keys mean, and which "
        "of them exclude each other. A key whose default is *none* has no value unless it is set.",
        *(_section(title, struct) for title, struct in TABLES.items()),
        "## Probes",
        "The tables of `ready` and `live`. `type` is the kind of probe.",
        *(_probe(probe) for probe in PROBES),
        "## Built-in daemons",
        "Keys that only their tables may have:",
        table(
            ("daemon", "key", "type", "meaning"),
            (
                (code(name), code(key), "string", one_line(meaning))
                for name, builtin in BUILTINS.items()
                for key, meaning in builtin.options.items()
            ),
        ).rstrip(),
    ]
    return "\n\n".join(parts)


def keys(struct: type[Struct]) -> list[tuple[str, str, str]]:
    """Return the keys of a table: name, type and default, as the page says them."""
    tag = struct.__struct_config__.tag
    first = [("type", code(json.dumps(tag)), "required")] if isinstance(tag, str) else []
    return [
        *first,
        *((field.encode_name, spoken(field.type), _default(field)) for field in msgspec.structs.fields(struct)),
    ]


def spoken(kind: Any, many: bool = False) -> str:
    """Return what a type is called in the vocabulary of TOML."""
    found = alternatives(kind)
    if set(found) >= set(PROBES):
        rest = [one for one in found if one not in PROBES]
        return f"{'probes' if many else 'probe'}{' or list of probes' if rest else ''}"
    return _either(dict.fromkeys(_spoken(one, many) for one in found))


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _spoken(kind: Any, many: bool) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        limits = [limit for meta in arguments[1:] if isinstance(meta, Meta) and (limit := _limits(meta))]
        return " ".join([spoken(arguments[0], many), *limits])
    if origin is Literal:
        return _either(code(json.dumps(one)) for one in arguments)
    if origin is tuple:
        return f"list of {spoken(arguments[0], many=True)}"
    if origin is dict and arguments[1] is Any:
        return "tables" if many else "table"
    if origin is dict:
        return f"{'tables' if many else 'table'} of {spoken(arguments[1], many=True)}"
    if origin in (Union, UnionType):
        return spoken(kind, many)
    if kind is Any:
        return "anything"
    if kind in ELSEWHERE:
        return f"{ELSEWHERE[kind]}{'s' if many else ''}"
    return SPOKEN[kind.__name__] + ("s" if many else "")


def _limits(meta: Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f"from {meta.ge} to {meta.le}"
    if meta.ge is not None:
        return f"≥ {meta.ge}"
    return f"> {meta.gt}" if meta.gt is not None else ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    if value is None or isinstance(value, UnsetType):
        return NOTHING
    if isinstance(value, Struct):
        return "its defaults"
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    return code(json.dumps(list(plain) if isinstance(plain, tuple) else plain))


def _section(title: str, struct: type[Struct]) -> str:
    rows = [(code(name), kind, default) for name, kind, default in keys(struct)]
    return f"## {title}\n\n{table(('key', 'type', 'default'), rows).rstrip()}"


def _probe(probe: type[Struct]) -> str:
    tag = str(probe.__struct_config__.tag)
    text = markdown(text_of(find(f"neo_daemons.definitions.{probe.__name__}")))
    rows = [(code(name), kind, default) for name, kind, default in keys(probe)]
    return f"### {tag}\n\n{text}\n\n{table(('key', 'type', 'default'), rows).rstrip()}"
