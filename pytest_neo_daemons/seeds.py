"""Seeds: data that is built once, sealed, and cloned for tests. `seeding` does the work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .names import fixture_name, seed_fixture_name

if TYPE_CHECKING:
    from .handles import Daemon

    Builder = Callable[[Daemon], dict[str, int]]

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}\Z")


class Seed:
    """Data of a daemon, built by a function; see `seed`."""

    def __init__(self, build: Builder, daemon: str, name: str, inputs: tuple[Path, ...]) -> None:
        self.build = build
        self.daemon = daemon
        """The name of the daemon that the builder gets."""
        self.name = name
        self.inputs = inputs
        """Files and directories that the builder reads."""
        self.counter: Builder | None = None
        """Counts again what the builder has counted."""

    def __repr__(self) -> str:
        return f"<Seed {self.name} of {self.daemon}>"

    def count(self, function: Builder) -> Builder:
        """Decorate a function that gets a daemon on a clone of the seed and counts what is in it. A clone whose counts
        differ from those of the seed is refused."""
        self.counter = function
        return function


def seed(
    daemon: str, *, inputs: Iterable[str | PathLike[str]] = (), name: str | None = None
) -> Callable[[Builder], Seed]:
    """Decorate a function that fills a running daemon of its own and returns counts of what is in it.

    Args:
        daemon: the name of the daemon.
        inputs: files and directories that the builder reads, relative to the directory of its file. The seed is built
            again when their content changes.
        name: the name of the seed, by default that of the function.

    Raises:
        ValueError: the name cannot be used.
    """

    def decorate(build: Builder) -> Seed:
        stated = name if name is not None else build.__name__.lower()
        if not NAME.match(stated):
            raise ValueError(f"seed(name={stated!r}): use at most 60 of a-z, 0-9, _ and -, beginning with a-z or 0-9")
        directory = Path(build.__code__.co_filename).absolute().parent
        return Seed(build, daemon, stated, tuple(directory / one for one in inputs))

    return decorate


FROM_FIXTURE = object()
"""The default of `new_daemon`'s argument `seed`: what the fixture ``NAME_seed`` returns."""


def stated(name: str, request: pytest.FixtureRequest) -> Seed | None:
    """Return the seed that the fixture ``NAME_seed`` of a daemon returns."""
    fixture = fixture_name(name)
    if fixture is None:
        return None
    value = request.getfixturevalue(seed_fixture_name(fixture))
    check_seed(value, f"the fixture {seed_fixture_name(fixture)} returned")
    return value  # type: ignore[no-any-return]


def check_seed(value: object, what: str) -> None:
    """Fail the test if this is neither a seed nor None."""
    if value is not None and not isinstance(value, Seed):
        pytest.fail(
            f"{what} {value!r:.200}, which is not a seed; use a function decorated by pytest_neo_daemons.seed, or None",
            pytrace=False,
        )
