"""``env``: the environment variables by which programs find the daemons."""

from __future__ import annotations

import argparse
import json
import re
import secrets
import shlex
from collections.abc import Callable, Iterable, Mapping

from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client
from neo_daemons.similar import among
from neo_daemons.status import DaemonStatus

from .codes import DONE, FAILED
from .selection import names_of
from .streams import complain

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What every shell accepts as the name of a variable."""
PLAIN = re.compile(r"[\w./:@%+,=-]*", re.ASCII)
"""Values that mean the same with quotes and without, to everything that reads dotenv files."""


def env(options: argparse.Namespace) -> int:
    """Print the variables that daemons export."""
    client = Client(find_state_dir(options.state_dir, file=options.config), patience_s=REMADE_S)
    daemons = {daemon.name: daemon for daemon in client.status().daemons}
    names = names_of(daemons.values(), options.names)
    unknown = [name for name in names if name not in daemons]
    if unknown:
        known = among(unknown[0], daemons)
        return complain(f"unknown daemon {unknown[0]!r}; configured daemons: {known}", FAILED)
    chosen = [daemons[name] for name in names] or [*daemons.values()]
    for daemon in chosen:
        if daemon.name in options.names and not daemon.env:
            return complain(f"{daemon.name} exports no variables; add exports to its definition", FAILED)
    found = merged(chosen)
    if isinstance(found, str):
        return complain(found, FAILED)
    if options.format != "json":
        for name in found:
            if not NAME.fullmatch(name):
                return complain(f"{name!r} cannot be the name of a variable; use --format json", FAILED)
    print(FORMATS[options.format](found), end="")
    return DONE


def merged(daemons: Iterable[DaemonStatus]) -> dict[str, str] | str:
    """Return the variables of all, or why they contradict each other."""
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for daemon in daemons:
        for name, value in daemon.env.items():
            if found.get(name, value) != value:
                return f"{owners[name]} and {daemon.name} both export {name}, with different values; name one of them"
            found[name], owners[name] = value, daemon.name
    return found


def _sh(variables: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _fish(variables: Mapping[str, str]) -> str:
    # In single quotes fish knows two escapes.
    return "".join(f"set -gx {name} {_quoted(value)}\n" for name, value in variables.items())


def _dotenv(variables: Mapping[str, str]) -> str:
    return "".join(
        f"{name}={value if PLAIN.fullmatch(value) else _quoted(value)}\n" for name, value in variables.items()
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _github(variables: Mapping[str, str]) -> str:
    """For the file of GITHUB_ENV: a value of several lines ends with a word that it cannot contain."""
    end = f"end-{secrets.token_hex(8)}"
    return "".join(
        f"{name}<<{end}\n{value}\n{end}\n" if "\n" in value else f"{name}={value}\n"
        for name, value in variables.items()
    )


def _json(variables: Mapping[str, str]) -> str:
    return json.dumps(variables, indent=2, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "sh": _sh,
    "fish": _fish,
    "dotenv": _dotenv,
    "json": _json,
    "github": _github,
}
