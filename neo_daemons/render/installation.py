"""The supervisor of a project, as something that a service manager starts and keeps up."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from neo_daemons.state_dir import DEFAULT_NAME

HEADER = "Written by `neo-daemons enable`; `neo-daemons disable` removes it."
"""In the first lines of each file, by which we know our own."""
MODULE = ("-P", "-m", "neo_daemons")
"""What follows the interpreter; `-P`: no module of the project is imported."""


class NotExpressible(ValueError):
    """A value cannot stand in a unit or a property list; ``str()`` says which and why."""


class Installation(Struct, frozen=True, kw_only=True):
    """A supervisor to be installed. All paths are absolute.

    Raises:
        NotExpressible: a value holds what neither a unit nor a property list can hold, such as a line break.
    """

    name: str
    """Of the unit, without a suffix; see `name_of`."""
    root: str
    """The project's directory, in which the supervisor runs."""
    state_dir: str
    interpreter: str
    config: str | None = None
    """The configuration file; None: the supervisor finds it from `root`."""
    env: Mapping[str, str] = {}
    """The variables that a service manager would not set by itself."""
    machine: bool = False
    """Whether it starts with the machine rather than with the user's session."""
    account: str | None = None
    """With `machine`, the user that it runs as; None: root."""

    def __post_init__(self) -> None:
        given = {
            "the name": self.name,
            "the project's directory": self.root,
            "the state directory": self.state_dir,
            "the interpreter": self.interpreter,
            "the configuration file": self.config or "",
            "the user": self.account or "",
            **{f"the variable {name}": f"{name}{value}" for name, value in self.env.items()},
        }
        for what, text in given.items():
            for character in text:
                if not _is_expressible(character):
                    raise NotExpressible(f"{what} contains {character!r}, which a service's definition cannot hold")
        for what in ("the project's directory", "the state directory", "the interpreter"):
            if not given[what].startswith("/"):
                raise NotExpressible(f"{what} is {given[what]!r}, which is not an absolute path")

    def command(self, verb: str) -> list[str]:
        """Return the command line of a command on this supervisor, such as ``serve``."""
        options = ["--state-dir", self.state_dir]
        if self.config is not None:
            options += ["--config", self.config]
        return [self.interpreter, *MODULE, verb, *options]


def name_of(state_dir: Path) -> str:
    """Return the name for the supervisor of a state directory: readable, and unlike that of any other directory."""
    place = state_dir.parent if state_dir.name == DEFAULT_NAME else state_dir
    readable = re.sub(r"[^a-z0-9]+", "-", place.name.lower()).strip("-")[:32].strip("-")
    digest = hashlib.sha256(str(state_dir).encode()).hexdigest()[:8]
    return "-".join(part for part in ("neo-daemons", readable, digest) if part)


def _is_expressible(character: str) -> bool:
    """Return whether both formats can hold a character: XML has no control characters, and systemd refuses the whole
    line for what Unicode does not assign to text."""
    code = ord(character)
    is_noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return not is_noncharacter and unicodedata.category(character) not in ("Cc", "Cs")
