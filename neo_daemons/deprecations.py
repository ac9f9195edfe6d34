"""What is deprecated, and what is said of it. docs/upgrading.md has the rule."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct


class Deprecation(Struct, frozen=True):
    """Something that a later version will not have."""

    since: str
    """The version that has deprecated it."""
    until: str
    """The version that will not have it."""
    instead: str
    """What to do, as an order: ``use ready``."""

    def of(self, what: str) -> str:
        """Return what is said of something that is deprecated."""
        return f"{what} is deprecated since {self.since}, and {self.until} will not have it; {self.instead}"


KEYS: Mapping[str, Deprecation] = {}
"""The deprecated keys of the configuration, such as ``parallel`` or ``daemons.*.log.keep``; ``*`` is any name."""


def of_keys(content: Mapping[str, Any], place: str, keys: Mapping[str, Deprecation] | None = None) -> Iterator[str]:
    """Yield what is said of the deprecated keys in a configuration.

    Args:
        place: what is written before each key: the file.
        keys: the default is `KEYS`.
    """
    for pattern, deprecation in (KEYS if keys is None else keys).items():
        for key in _stated(content, pattern.split(".")):
            yield deprecation.of(f"{place}{key}")


def _stated(content: Any, way: list[str], before: str = "") -> Iterator[str]:
    if not way:
        yield before.removesuffix(".")
    elif isinstance(content, Mapping):
        for name in content if way[0] == "*" else [way[0]]:
            if name in content:
                yield from _stated(content[name], way[1:], f"{before}{name}.")
    elif isinstance(content, list):  # of probes
        for one in content:
            yield from _stated(one, way, before)


def warn(what: str, deprecation: Deprecation, *, stacklevel: int = 1) -> None:
    """Warn the caller of a function that it, or a parameter, is deprecated.

    Args:
        stacklevel: how many calls there are between the deprecated function and this one, both included.
    """
    warnings.warn(deprecation.of(what), DeprecationWarning, stacklevel=stacklevel + 2)
