"""What is rendered, and the errors in it."""

from __future__ import annotations

from msgspec import Struct

from neo_daemons.config.errors import ConfigError
from neo_daemons.definitions import Definition


class Stack(Struct, frozen=True, kw_only=True):
    """The daemons of a project."""

    name: str
    """The project's: it becomes part of names."""
    definitions: tuple[Definition, ...]
    root: str
    """The project's directory on this machine."""
    source: str
    """The configuration file, for messages."""
    prefix: str = ""
    """What each key begins with in that file."""


class Faults:
    """Collects the errors of a stack: each names the key that mends it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.root = stack.root
        """The project's directory on this machine."""
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, name: str, key: str, problem: str, remedy: str) -> None:
        """Add the error at a key of a daemon."""
        place = f"daemons.{name}.{key}" if key else f"daemons.{name}"
        remedy = remedy.replace("set daemons.", f"set {self._stack.prefix}daemons.")
        self._found.append(f"{self._stack.source}: {self._stack.prefix}{place}: {problem}; {remedy}")

    def raise_all(self) -> None:
        """Raise the errors.

        Raises:
            ConfigError: there are errors.
        """
        if self._found:
            raise ConfigError(*dict.fromkeys(self._found))
