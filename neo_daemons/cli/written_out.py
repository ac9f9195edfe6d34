"""``doctor --tests``: what a test run cannot isolate, because a configuration has it written out.

A run gives each daemon other ports and directories, by references such as ``${port}``. A port, path or URL that stands
in a command, in ``env`` or in a file leads to production in a test run, too.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

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
ABSOLUTE = re.compile(r"""(?<![\w.~})/*-])/[^\s'"=,;:]+""")
"""An absolute path; not the end of a relative one, or what follows a reference."""


class Production(Struct, frozen=True):
    """What belongs to production on this machine."""

    ports: dict[int, str]
    """Port → whose it is."""
    paths: dict[str, str]
    """Directory or file, without links → whose it is."""

    def at(self, path: str) -> set[str]:
        """Return those of the directories and files that a path is, or leads into."""
        return {one for one in _with_parents(path) if one in self.paths}


class Hint(Struct, frozen=True):
    """What a text leads to, whichever daemon the text belongs to."""

    level: Literal["problem", "note"]
    text: str
    remedy: str


Reader = Callable[[Path], list[Hint]]


def written_out(config: Path | None, state_dir: Path | None) -> list[Finding]:
    """Return what is written out in the project's configuration.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    project = load(config, state_dir=state_dir)
    production = _production(project, registry.entries())
    read = _reader(production)
    findings = []
    for definition in load(config, state_dir=NOWHERE, isolated=True).definitions:
        if not definition.external:
            findings += [*_fixed_ports(definition), *_texts(definition, production, read)]
    if not findings:
        text = "nothing in the configuration leads a test run to production"
        findings.append(Finding(level="ok", subject="tests", text=text))
    return findings


def _production(project: Configuration, entries: Iterable[registry.Entry]) -> Production:
    ports: dict[int, str] = {}
    paths = {os.path.realpath(project.state.path): "this project's state directory"}
    for definition in project.definitions:
        whose = f"this project's {definition.name}"
        for port in definition.ports.values():
            if (number := port.fixed or port.preferred) is not None:
                ports[number] = whose
        for path in (definition.data_dir, definition.options.get("database")):
            if path:
                paths[os.path.realpath(path)] = whose
    for entry in entries:
        paths.setdefault(os.path.realpath(entry.state_dir), "a production supervisor")
        for daemon in entry.daemons:
            whose = f"{daemon.name} of {entry.state_dir}, which is running"
            ports.update(dict.fromkeys(daemon.ports.values(), whose))
            paths.update((os.path.realpath(path), whose) for path in (daemon.data_dir, daemon.database) if path)
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


def _texts(definition: Definition, production: Production, read: Reader) -> Iterator[Finding]:
    stated = {"command": definition.command, "env": definition.env, "cwd": definition.cwd, "url": definition.url}
    pieces = {"command": " ".join(definition.command)}
    pieces |= {place.lstrip("."): text for place, text in texts({k: v for k, v in stated.items() if k != "command"})}
    found: list[Hint] = []
    for place, text in pieces.items():
        found += _hints(place, text, production, base=definition.cwd)
    for place, text in pieces.items():
        for path in _files(place, text, definition):
            found += read(path)
    for hint in dict.fromkeys(found):
        yield Finding(level=hint.level, subject=definition.name, text=hint.text, remedy=hint.remedy)


def _reader(production: Production) -> Reader:
    """Return a function that reads each file once: many daemons may name the same."""

    @functools.cache
    def read(path: Path) -> list[Hint]:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        found: list[Hint] = []
        for number, line in enumerate(lines, 1):
            found += _hints(f"{path}, line {number},", line, production, base=None)
        return found

    return read


def _hints(place: str, text: str, production: Production, *, base: str | None) -> Iterator[Hint]:
    """Yield what a text leads to.

    Args:
        base: the directory of relative paths; None in a file, where it is not known.
    """
    for match in NUMBER.finditer(text):
        whose = production.ports.get(int(match[0]))
        clear = re.search(r"(?:[\w\].]:|port\W{0,3})$", text[: match.start()], re.IGNORECASE) is not None
        if whose is not None and (clear or base is not None):
            yield Hint(
                level="problem" if clear else "note",
                text=f"{place} has {match[0]} written out, the port of {whose}",
                remedy="write ${port}, ${ports.NAME} or ${daemons.NAME.url}: tests get other ports",
            )
    named = {path for path in production.paths if _mentions(text, path)}
    for match in ABSOLUTE.finditer(text):
        named |= production.at(match[0])
    bare = set[str]()
    if base is not None:
        words = WORD.findall(text)
        for number, word in enumerate(words):
            is_program = place == "command" and number == 0 and "/" not in word  # which PATH leads to
            if not is_program and not word.startswith(("/", "$", "-")) and "://" not in word:
                # A word without a slash may be something else, such as the name of a command.
                (named if "/" in word or word.startswith(".") else bare).update(production.at(os.path.join(base, word)))
    for path, whose in production.paths.items():
        if path in named or path in bare:
            yield Hint(
                level="problem" if path in named else "note",
                text=f"{place} {'leads' if path in named else 'may lead'} to {path}, which belongs to {whose}",
                remedy="write ${data_dir} or ${daemons.NAME.data_dir}: tests get other directories",
            )


def _mentions(text: str, path: str) -> bool:
    return path in text and re.search(rf"{re.escape(path)}(?![\w.-])", text) is not None


@functools.lru_cache(maxsize=4096)
def _with_parents(path: str) -> tuple[str, ...]:
    """Return where a path leads, whatever links it goes through, and the directories above that."""
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError):
        return ()
    return (str(real), *map(str, real.parents))


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
