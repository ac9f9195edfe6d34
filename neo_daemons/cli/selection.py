"""The daemons that the words of a command line mean: names, and groups as ``@db``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from neo_daemons.config.errors import ConfigError
from neo_daemons.similar import among
from neo_daemons.status import DaemonStatus

if TYPE_CHECKING:
    from neo_daemons.definitions import Definition  # commands that ask a supervisor do without

MARK = "@"


def names_of(daemons: Iterable[Definition | DaemonStatus], words: Iterable[str]) -> list[str]:
    """Return the names of the daemons that `words` mean, each once. A name is returned even if there is no such daemon.

    Raises:
        ConfigError: no daemon belongs to a group.
    """
    members: dict[str, list[str]] = {}
    for daemon in daemons:
        for group in daemon.groups:
            members.setdefault(f"{MARK}{group}", []).append(daemon.name)
    names: list[str] = []
    for word in words:
        if not word.startswith(MARK):
            names.append(word)
        elif word in members:
            names += members[word]
        elif members:
            raise ConfigError(f"unknown group {word!r}; configured groups: {among(word, members)}")
        else:
            example = f'groups = ["{word.removeprefix(MARK) or "db"}"]'
            raise ConfigError(f"unknown group {word!r}; no daemon belongs to a group; add e.g. {example} to its table")
    return list(dict.fromkeys(names))


def chosen_of(definitions: Iterable[Definition], words: Iterable[str], *, option: str = "--only ") -> list[str]:
    """Return the names of configured daemons that can be started.

    Args:
        option: stands before a name in messages.

    Raises:
        ConfigError: there is no such daemon or group, or what is named has no process of its own.
    """
    known = {definition.name: definition for definition in definitions}
    words = [*words]
    names = [name for name in names_of(known.values(), words) if name in words or known[name].share]
    for name in names:
        if name not in known:
            what = f"{option}{name}: unknown daemon" if option else f"unknown daemon {name!r}"
            raise ConfigError(f"{what}; configured daemons: {among(name, known)}")
        if not known[name].share:
            raise ConfigError(f"{option}{name}: it has one process for each client (share = false); leave it out")
    return names


def with_requirements(names: Iterable[str], daemons: Mapping[str, DaemonStatus]) -> set[str]:
    """Return these names and those of all daemons that they require, directly or not."""
    found: set[str] = set()
    left = [*names]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += daemons[name].requires if name in daemons else ()
    return found
