"""``doctor --tests``: what a test run cannot isolate, because a configuration has it written out.

A run gives each daemon other ports and directories, by references such as ``${port}``. A port, path or URL that stands
in a command, in ``env`` or in a file leads to production in a test run, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from neo_daemons import registry
from neo_daemons.config.configuration import load
from neo_daemons.config.project import Configuration
from neo_daemons.definitions import Definition
from neo_daemons.references import texts
from neo_daemons.supervision.survey import Finding

NOWHERE = Path("/nowhere")
"""A state directory for a configuration that is only read."""
MAX_FILE_BYTES = 262_144
NUMBER = re.compile(r"(?<![\d.])\d{2,5}(?![\d.])")
WORD = re.compile(r"""[^\s'"=,;]+""")


class Production(Struct, frozen=True):
    """What belongs to production on this machine."""

    ports: dict[int, str]
    """Port → whose it is."""
    paths: dict[str, str]
    """Directory or file → whose it is."""


def written_out(config: Path | None, state_dir: Path | None) -> list[Finding]:
    """Return what is written out in the project's configuration.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    project = load(config, state_dir=state_dir)
    production = _production(project, registry.entries())
    findings = []
    for definition in load(config, state_dir=NOWHERE, isolated=True).definitions:
        if not definition.external:
            findings += [*_fixed_ports(definition), *_texts(definition, production)]
    if not findings:
        text = "nothing in the configuration leads a test run to production"
        findings.append(Finding(level="ok", subject="tests", text=text))
    return findings


def _production(project: Configuration, entries: Iterable[registry.Entry]) -> Production:
    ports: dict[int, str] = {}
    paths = {str(project.state.path): "this project's state directory"}
    for definition in project.definitions:
        whose = f"this project's {definition.name}"
        for port in definition.ports.values():
            if (number := port.fixed or port.preferred) is not None:
                ports[number] = whose
        for path in (definition.data_dir, definition.options.get("database")):
            if path:
                paths[os.path.realpath(path)] = whose
    for entry in entries:
        paths.setdefault(entry.state_dir, f"the supervisor with pid {entry.pid}")
        for daemon in entry.daemons:
            whose = f"{daemon.name} of {entry.state_dir}, which is running"
            ports.update(dict.fromkeys(daemon.ports.values(), whose))
            paths.update((path, whose) for path in (daemon.data_dir, daemon.database) if path is not None)
    return Production(ports, paths)


def _fixed_ports(definition: Definition) -> Iterator[Finding]:
    for name, port in definition.ports.items():
        if port.fixed is not None:
            reference = "${port}" if name == next(iter(definition.ports)) else f"${{ports.{name}}}"
            text = f"port {port.fixed} stays the same in tests, because its command, env and url do not refer to it"
            yield Finding(
                level="problem",
                subject=definition.name,
                text=text,
                remedy=f"write {reference} in place of {port.fixed}, so that tests get another port",
            )


def _texts(definition: Definition, production: Production) -> Iterator[Finding]:
    stated = {"command": definition.command, "env": definition.env, "cwd": definition.cwd, "url": definition.url}
    pieces = {"command": " ".join(definition.command)}
    pieces |= {place.lstrip("."): text for place, text in texts({k: v for k, v in stated.items() if k != "command"})}
    for place, text in pieces.items():
        yield from _findings(definition.name, place, text, production, in_file=False, base=definition.cwd)
    for place, text in pieces.items():
        for path in _files(place, text, definition):
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                continue
            for number, line in enumerate(lines, 1):
                at = f"{path}, line {number},"
                yield from _findings(definition.name, at, line, production, in_file=True, base="")


def _findings(
    daemon: str, place: str, text: str, production: Production, *, in_file: bool, base: str
) -> Iterator[Finding]:
    for match in NUMBER.finditer(text):
        whose = production.ports.get(int(match[0]))
        clear = re.search(r"(?:[\w\].]:|port\W{0,3})$", text[: match.start()], re.IGNORECASE) is not None
        if whose is not None and (clear or not in_file):
            yield Finding(
                level="problem" if clear else "note",
                subject=daemon,
                text=f"{place} has {match[0]} written out, the port of {whose}",
                remedy="write ${port}, ${ports.NAME} or ${daemons.NAME.url}: tests get other ports",
            )
    for path, whose in production.paths.items():
        if _mentions(text, path) or (base and any(_leads(word, base, path) for word in WORD.findall(text))):
            yield Finding(
                level="problem",
                subject=daemon,
                text=f"{place} leads to {path}, which belongs to {whose}",
                remedy="write ${data_dir} or ${daemons.NAME.data_dir}: tests get other directories",
            )


def _mentions(text: str, path: str) -> bool:
    return re.search(rf"{re.escape(path)}(?![\w.-])", text) is not None


def _leads(word: str, base: str, path: str) -> bool:
    """Return whether a relative path leads to what is at or below `path`."""
    if word.startswith(("/", "$", "-")) or "://" in word or ("/" not in word and not word.startswith(".")):
        return False
    full = os.path.realpath(os.path.join(base, word))
    return full == path or full.startswith(f"{path}/")


def _files(place: str, text: str, definition: Definition) -> Iterator[Path]:
    """Yield the text files that a command or a variable names, but for the program itself."""
    words = WORD.findall(text)
    for word in words[1:] if place == "command" else words:
        path = Path(definition.cwd or ".", word)
        try:
            if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES:
                yield path
        except (OSError, ValueError):
            continue
