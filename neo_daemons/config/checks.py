"""Checks that types cannot express: probes, URLs, and what daemons share or wait for.

Most add an error to the reader, with its key. `check_order` raises an exception: its definitions may come from a
program instead of a file.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from neo_daemons.definitions import AnyProbe, Definition, ExecProbe, FileProbe, HttpProbe, LogProbe, TcpProbe
from neo_daemons.interpreter import installed_modules
from neo_daemons.urls import is_url, redacted

from .errors import ConfigError
from .reader import Reader

REFERENCE = re.compile(r"\$\{[^}]*\}")


def probes(definition: Definition) -> Iterator[tuple[str, AnyProbe]]:
    """Yield the probes of a daemon, each after its key."""
    for key in ("ready", "live"):
        probes = getattr(definition, key)
        yield from ((key if len(probes) == 1 else f"{key}[{number}]", probe) for number, probe in enumerate(probes))


def find_cycle(definitions: Iterable[Definition]) -> tuple[str, ...]:
    """Return a dependency cycle: daemons that each wait for the next, the first again at the end; empty if there is
    none."""
    graph = {definition.name: {*definition.after, *definition.requires} for definition in definitions}
    if not any(graph.values()):
        return ()
    with installed_modules():  # here: most projects need no order
        from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return tuple(reversed(error.args[1]))
    return ()


def check_order(definitions: Iterable[Definition]) -> None:
    """Check that the daemons can be started in the order that they ask for.

    Raises:
        ConfigError: there is a dependency cycle, or a named daemon does not exist.
    """
    known = {definition.name: definition for definition in definitions}
    for name, definition in known.items():
        for other in sorted({*definition.after, *definition.requires} - known.keys()):
            raise ConfigError(f"{name} must start after {other!r}, but no daemon {other!r} is defined")
    if cycle := find_cycle(known.values()):
        raise ConfigError(f"dependency cycle: {' → '.join(cycle)}")


def check_url(reader: Reader, name: str, place: str, url: str, example: str | None = None) -> bool:
    """Check that the value at a key of a daemon is a URL, and return whether it is.

    Args:
        example: the URL with a value for each reference in it.
    """
    valid = is_url(url if example is None else example)
    if not valid:
        reader.fault_of(name, place, redacted(url), "not a URL", 'use e.g. "http://host:8000/path"')
    return valid


def check_places(reader: Reader, definition: Definition) -> None:
    """Check the daemon's program, host and URL."""
    name, host, url = definition.name, definition.host, definition.url
    _check_program(reader, name, "command", definition.command)
    if not _is_host(host):
        reader.fault_of(name, "host", host, "not a host name or an IP address", 'use e.g. "127.0.0.1"')
    # Programs without HTTP have URLs, too, for example redis://${host}:${port}.
    if url is not None and not url.startswith("$") and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        reader.fault_of(name, "url", redacted(url), "not a URL", 'use e.g. "http://${host}:${port}/path"')


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"[^\s/:@?#\[\]]+", text) is not None and re.fullmatch(r"(\d+\.){3}\d+", text) is None
    return True


def _check_program(reader: Reader, name: str, place: str, command: Sequence[str]) -> None:
    if command and not command[0].strip():
        remedy = "put the name or path of the program first"
        reader.fault_of(name, f"{place}[0]", command[0], "is not a program", remedy)


def check_probes(reader: Reader, definition: Definition) -> None:
    """Check each of a daemon's probes."""
    for place, probe in probes(definition):
        match probe:
            case HttpProbe():
                _check_http(reader, definition.name, place, probe)
            case LogProbe():
                _check_pattern(reader, definition.name, f"{place}.pattern", probe.pattern)
                if place.startswith("live"):
                    problem = (
                        "log probes work only for ready, not for live, because a line that has matched keeps matching"
                    )
                    reader.fault_of(definition.name, f"{place}.type", "log", problem, "use another type")
            case ExecProbe():
                _check_program(reader, definition.name, f"{place}.command", probe.command)
            case FileProbe() if (probe.database is None) != (probe.query is None):
                problem = "database and query must be set together"
                reader.fault_of(definition.name, f"{place}.type", "file", problem, "set both or neither")
        if isinstance(probe, TcpProbe) or (isinstance(probe, HttpProbe) and probe.url is None):
            _check_port(reader, definition, place, probe)


def _check_port(reader: Reader, definition: Definition, place: str, probe: HttpProbe | TcpProbe) -> None:
    if not definition.ports:
        kind = probe.__struct_config__.tag
        remedy = "use an http probe with a url" if definition.external else 'add port = "auto"'
        reader.fault_of(definition.name, f"{place}.type", kind, "requires a port, but the daemon has none", remedy)
    elif probe.port is not None and probe.port not in definition.ports:
        ports = ", ".join(definition.ports)
        reader.fault_of(definition.name, f"{place}.port", probe.port, "unknown port", f"use one of: {ports}")


def _check_http(reader: Reader, name: str, place: str, probe: HttpProbe) -> None:
    if not probe.path.startswith(("/", "$")):
        reader.fault_of(name, f"{place}.path", probe.path, "does not begin with /", f"use {'/' + probe.path!r}")
    if probe.url is not None and not probe.url.startswith("$"):
        check_url(reader, name, f"{place}.url", probe.url, REFERENCE.sub("1", probe.url))
    if probe.body is not None:
        _check_pattern(reader, name, f"{place}.body", probe.body)
    try:
        json.dumps(probe.json)
    except TypeError:  # TOML has dates
        problem = "contains a date or time, which JSON does not support"
        reader.fault_of(name, f"{place}.json", probe.json, problem, "put it in quotes")


def _check_pattern(reader: Reader, name: str, place: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        remedy = "correct it, or escape special characters with a backslash"
        reader.fault_of(name, place, pattern, f"invalid regular expression ({error})", remedy)


def check_shared(reader: Reader, definitions: Iterable[Definition], tables: Mapping[str, dict[str, Any]]) -> None:
    """Check that no two daemons have the same fixed port or data directory.

    Args:
        tables: the file's tables, by the name of the daemon.
    """
    ports: dict[int, str] = {}
    directories: dict[str, str] = {}
    for definition in definitions:
        for port_name, port in definition.ports.items():
            if port.fixed is None or definition.external:
                continue
            key = "port" if "port" in tables[definition.name] else f"ports.{port_name}"
            if port.fixed in ports:
                problem = f"already used by {ports[port.fixed]}"
                reader.fault_of(definition.name, key, port.fixed, problem, 'choose another, or "auto"')
                continue
            ports[port.fixed] = f"daemons.{definition.name}.{key}"
        if definition.data_dir is not None:
            if definition.data_dir in directories:
                stated = tables[definition.name].get("data_dir", UNSET)
                problem = f"is {definition.data_dir}, already used by daemons.{directories[definition.data_dir]}"
                remedy = "give each daemon its own directory"
                reader.fault_of(definition.name, "data_dir", stated, problem, remedy)
                continue
            directories[definition.data_dir] = definition.name
