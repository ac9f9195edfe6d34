"""Makes the JSON schema of configuration files, from the types and the tables of the documentation.

``python -m tests.json_schema`` writes it into the package. `tests/config/test_json_schema.py` compares it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from neo_daemons import definitions
from neo_daemons.config import schema as config_schema
from neo_daemons.config.build import NOT_OF_ONESHOTS
from neo_daemons.config.builtins import BUILTINS, Builtin
from neo_daemons.config.json_schema import FILE
from neo_daemons.config.not_shared import MAX_NAME, NOT_ALLOWED, NOT_OF_STDIO
from neo_daemons.config.schema import File, Settings
from neo_daemons.definitions import NAME_PATTERN, AnyProbe, Deploy, ExecProbe, FileProbe, HttpProbe, Log, Restart, Stop
from neo_daemons.urls import LONGEST

Schema = dict[str, Any]

ROOT = Path(__file__).parent.parent
DOCUMENTED: Mapping[tuple[str, str], tuple[type[msgspec.Struct], ...]] = {
    ("configuration.md", "## Top-level keys"): (File,),
    ("configuration.md", "## Keys of a daemon"): (Settings,),
    ("configuration.md", "| key of `restart` "): (Restart,),
    ("configuration.md", "| key of `stop` "): (Stop,),
    ("configuration.md", "| key of `log` "): (Log,),
    ("configuration.md", "| key of all probes "): get_args(AnyProbe),
    ("configuration.md", "**`http`** "): (HttpProbe,),
    ("rendering.md", "| key | type | default | meaning "): (Deploy,),
}
"""The beginning of a line in a page → whose keys the next table explains."""

END = r"(?![\s\S])"
"""The end of a string, in every dialect of regular expressions."""
PORT_NAME = "[A-Za-z0-9_-]+"
PLACES = ("project", "state_dir", "cache_dir")
OWN = ("name", "host", "log_path", "python", "port", rf"ports\.{PORT_NAME}", "data_dir", r"env\.[A-Za-z0-9_-]+")
OTHERS = rf"daemons\.[a-z][a-z0-9_-]*\.(name|host|log_path|port|ports\.{PORT_NAME}|data_dir|url)"
HTTP_URL = r"[Hh][Tt][Tt][Pp][Ss]?://[^/?#\s]\S*" + END
OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
DIGITS = rf"([0-9]+\.){{3}}[0-9]+{END}"
HOST = rf"^(({OCTET}\.){{3}}{OCTET}|(?!{DIGITS})[^\s/:@?#\[\]]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+(%[^%/]+)?){END}"
EMPTY = {"maxItems": 0, "maxProperties": 0, "maxLength": 0, "maximum": 0, "not": {"const": True}}
"""What a key may have that must not be set: a list or a table without items, say."""


def make() -> Schema:
    """Return the schema of a whole file."""
    _, components = msgspec.json.schema_components((Settings, File), ref_template="#/definitions/{name}")
    found = _tidy(components)
    for struct, meanings in _meanings():
        for key, meaning in meanings.items():
            if (described := found[struct.__name__]["properties"].get(key)) is not None:
                described["description"] = meaning
    for struct in _structs(found):
        found[struct.__name__]["description"] = " ".join((inspect.getdoc(struct) or "").split())
        found[struct.__name__].pop("title")
    settings, top = found.pop("Settings"), found.pop("File")
    _restrict_strings(settings, found)
    found |= {
        "empty": EMPTY,
        "rules": {"allOf": _of_all_daemons()},
        "daemon": {**settings, "allOf": [{"$ref": "#/definitions/rules"}, *_of_own_daemons()]},
        **{name: _builtin(name, settings, builtin) for name, builtin in BUILTINS.items()},
        "probe": _checked_probe(found["Probe"]),
    }
    top["properties"]["daemons"] |= {
        "minProperties": 1,
        "propertyNames": {"pattern": _ecma(NAME_PATTERN)},
        "properties": {name: {"$ref": f"#/definitions/{name}"} for name in BUILTINS},
        "patternProperties": {
            f"^.{{{MAX_NAME + 1}}}": {
                "allOf": [{"$ref": "#/definitions/daemon"}, {"properties": {"share": {"const": True}}}]
            }
        },
        "additionalProperties": {"$ref": "#/definitions/daemon"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "neo-daemons.toml",
        **top,
        "definitions": dict(sorted(found.items())),
    }


def text() -> str:
    """Return the schema as the file that is shipped."""
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


def _structs(found: Mapping[str, Schema]) -> list[type[msgspec.Struct]]:
    return [getattr(config_schema, name, None) or getattr(definitions, name) for name in found]


def _tidy(schema: Any) -> Any:
    """Return a schema of msgspec in the words of draft 7, without what TOML does not have."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(part) for key, part in schema.items() if key not in ("discriminator", "required")}
    if schema.get("required"):
        tidy["required"] = schema["required"]
    if isinstance(tidy.get("pattern"), str):
        tidy["pattern"] = _ecma(tidy["pattern"])
    if not isinstance(tidy.get("default"), bool | int | float | str):
        tidy.pop("default", None)
    if isinstance(parts := tidy.get("anyOf"), list):
        parts = [part for part in parts if part != {"type": "null"}]
        tidy["anyOf"] = parts
        if len(parts) == 1:
            tidy = {**parts[0], **{key: part for key, part in tidy.items() if key != "anyOf"}}
    if "$ref" in tidy and len(tidy) > 1:  # draft 7 ignores what stands beside a reference
        tidy = {"allOf": [{"$ref": tidy.pop("$ref")}], **tidy}
    return tidy


def _ecma(pattern: str) -> str:
    """Return a pattern of Python as it is written in ECMA 262, which JSON schemas use."""
    return pattern.replace(r"\Z", END).replace(r"\0", r"\x00")


def _meanings() -> Iterator[tuple[type[msgspec.Struct], dict[str, str]]]:
    """Yield types, each with what the documentation says about its keys."""
    for (page, mark), structs in DOCUMENTED.items():
        _, found, rest = (ROOT / "docs" / page).read_text().partition(f"\n{mark}")
        assert found, f"docs/{page} has no line that begins with {mark!r}"
        table = re.search(r"^\|(?=.*\n\|---).*\n\|---.*\n((?:\|.*\n)+)", f"{found}{rest}", re.MULTILINE)
        assert table is not None
        meanings: dict[str, str] = {}
        for row in table[1].splitlines():
            keys, _, _, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"), maxsplit=3))
            if meaning:
                plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning)
                meanings |= dict.fromkeys(re.findall(r"`(\w+)`", keys), plain[0].upper() + plain[1:])
        for struct in structs:
            yield struct, meanings


def _restrict_strings(settings: Schema, found: dict[str, Schema]) -> None:
    """Add what is required of strings: references, URLs, and the programs of commands."""
    keys = settings["properties"]
    for key, references in (("cwd", PLACES), ("data_dir", PLACES), ("url", PLACES + OWN)):
        keys[key]["pattern"] = _references(references)
    keys["url"]["allOf"] = [{"pattern": rf"^(\$|[A-Za-z][A-Za-z0-9+.-]*://\S+{END})"}]
    keys["host"]["pattern"] = HOST
    keys["external"] |= {"pattern": f"^{HTTP_URL}", "maxLength": LONGEST}
    anything = {"type": "string", "pattern": _references((*PLACES, *OWN, "url", OTHERS))}
    found["text"] = anything
    reference = {"$ref": "#/definitions/text"}
    keys["command"]["items"] = reference
    keys["command"]["allOf"] = [{"items": [{"pattern": r"\S"}]}]
    keys["env"]["additionalProperties"] = keys["exports"]["additionalProperties"] = reference
    for part in (HttpProbe, ExecProbe, FileProbe):
        for key, schema in found[part.__name__]["properties"].items():
            if key in ("path", "url", "database"):
                schema["pattern"] = anything["pattern"]
    found["ExecProbe"]["properties"]["command"]["items"] = reference
    found["HttpProbe"]["properties"]["headers"]["additionalProperties"] = reference
    found["Deploy"]["properties"]["command"]["items"] = reference
    # One definition for what is repeated.
    probes = keys["ready"]["anyOf"][1]["anyOf"]
    found["Probe"] = {"anyOf": probes}
    for key, owner, name in (
        ("ready", keys, "probe"),
        ("live", keys, "probe"),
        ("ready", found["Deploy"]["properties"], "Probe"),
        ("live", found["Deploy"]["properties"], "Probe"),
    ):
        one = {"$ref": f"#/definitions/{name}"}
        owner[key]["anyOf"] = [one, {"type": "array", "items": one}]
    keys["live"]["not"] = _some_probe({"properties": {"type": {"const": "log"}}})


def _references(names: tuple[str, ...]) -> str:
    return rf"^([^$]|\$\$|\$\{{({'|'.join(names)})\}})*{END}"


def _checked_probe(probe: Schema) -> Schema:
    return {
        "allOf": [
            probe,
            _rule({"type": {"const": "exec"}}, {"properties": {"command": {"items": [{"pattern": r"\S"}]}}}),
            _rule(
                {"type": {"const": "http"}},
                {"properties": {"path": {"pattern": r"^[/$]"}, "url": {"pattern": rf"^(\$|{HTTP_URL})"}}},
            ),
            {"dependencies": {"database": ["query"], "query": ["database"]}},
        ]
    }


def _some_probe(probe: Schema) -> Schema:
    """Return a schema for `ready` or `live` that matches if a probe in it does."""
    return {"anyOf": [{"type": "object", **probe}, {"type": "array", "contains": probe}]}


def _rule(condition: Schema, then: Schema | bool) -> Schema:
    """Return a rule for tables that have the keys of `condition`, with such values."""
    return {"if": {"required": [*condition], "properties": condition}, "then": then}


def _needs_port(http: Schema | None = None) -> Schema:
    """Return a schema for daemons that have a probe which connects to a port of theirs.

    Args:
        http: what holds for those over HTTP that do.
    """
    over_http = {"properties": {"type": {"const": "http"}, "url": False}, **(http or {})}
    connects = {"required": ["type"], "anyOf": [{"properties": {"type": {"const": "tcp"}}}, over_http]}
    return {"anyOf": [{"required": [key], "properties": {key: _some_probe(connects)}} for key in ("ready", "live")]}


HAS_PORT = {"anyOf": [{"required": ["port"]}, {"required": ["ports"], "properties": {"ports": {"minProperties": 1}}}]}


CONNECTS_TO_ITS_PORT = {"if": {"not": {"required": ["external"]}, **_needs_port()}, "then": HAS_PORT}


def _of_all_daemons() -> list[Schema]:
    """Return what no table of types expresses, and holds for every daemon: `build`, `checks` and `not_shared`."""
    empty = {"$ref": "#/definitions/empty"}
    return [
        _rule(
            {"external": True},
            {"properties": dict.fromkeys(("command", "port", "ports", "watch", "start", "user", "deploy"), empty)},
        ),
        _rule({"external": True}, {"not": _needs_port({"required": ["port"]})}),
        _rule({"oneshot": {"const": True}}, {"properties": dict.fromkeys(NOT_OF_ONESHOTS, False)}),
        _rule({"inputs": {"minItems": 1}}, {"required": ["oneshot"], "properties": {"oneshot": {"const": True}}}),
        _rule(
            {"idle_stop_s": True},
            {
                "anyOf": [
                    {"required": ["start"], "properties": {"start": {"const": "on-demand"}}},
                    {"required": ["share"], "properties": {"share": {"const": False}}},
                ]
            },
        ),
        _rule({"port": True}, {"properties": {"ports": empty}}),
        _rule(
            {"share": {"const": False}},
            {
                "properties": {
                    **dict.fromkeys(NOT_ALLOWED, empty),
                    "start": {"const": "on-demand"},
                    "port": {"const": "auto"},
                    "ports": {"additionalProperties": {"const": "auto"}},
                },
                "if": {"not": HAS_PORT},
                "then": {"properties": dict.fromkeys(NOT_OF_STDIO, empty)},
            },
        ),
    ]


def _of_own_daemons() -> list[Schema]:
    return [
        {"anyOf": [{"required": ["command"]}, {"required": ["external"]}]},
        CONNECTS_TO_ITS_PORT,
    ]


def _builtin(name: str, settings: Schema, builtin: Builtin) -> Schema:
    """Return the schema of the table of a built-in daemon."""
    keys: Schema = {key: {"$ref": f"#/definitions/daemon/properties/{key}"} for key in settings["properties"]}
    for option, meaning in builtin.options.items():
        keys[option] = {"type": "string", "minLength": 1, "description": meaning[0].upper() + meaning[1:]}
    own_command = {"required": ["command"]}
    rules = [
        {"$ref": "#/definitions/rules"},
        _rule({"oneshot": {"const": True}}, own_command),
        _rule({"share": {"const": False}}, own_command),
        _rule({"user": True}, own_command),
    ]
    if builtin.stated_elsewhere is not None:
        keys["settings"] = {
            "type": "object",
            "description": f"What becomes the configuration file of {name}",
            "properties": dict.fromkeys(builtin.stated_elsewhere, False),
        }
        rules.append(_rule({"settings": True}, {"properties": {"command": False, "external": False}}))
    if "port" not in builtin.settings({}):
        rules.append(CONNECTS_TO_ITS_PORT)
    return {
        "type": "object",
        "description": f"The built-in daemon {name}.",
        "properties": keys,
        "additionalProperties": False,
        "allOf": rules,
    }


if __name__ == "__main__":
    FILE.write_text(text())
