"""Determines which daemons the collected tests use, from their fixtures, markers and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from .names import (
    FIXTURES_OF_DAEMONS,
    MARKER,
    definition_fixture_name,
    fixture_name,
    seed_fixture_name,
    shared_fixture_name,
)

USES = pytest.StashKey[tuple[str, ...]]()


class Selection:
    """Which tests use which daemons of one run.

    Args:
        names: the names of the daemons.
        config: pytest's configuration.
    """

    def __init__(self, names: tuple[str, ...], config: pytest.Config) -> None:
        self.names = names
        self._plugins = config.pluginmanager
        self._by_fixture = {fixture_name(name): name for name in names}
        self._by_fixture |= {shared_fixture_name(name): name for name in names}

    def daemon_of(self, fixture: str) -> str | None:
        """Return the daemon that the fixture of this name provides; None if it provides none."""
        return self._by_fixture.get(fixture)

    def used_by(self, item: pytest.Item) -> tuple[str, ...]:
        """Return the shared daemons that a test uses."""
        if USES not in item.stash:
            fixtures: Iterable[str] = getattr(item, "fixturenames", ())
            names = [self._by_fixture[name] for name in fixtures if name in self._by_fixture]
            names += self.marked(item)
            isolated: set[str] = set()
            for marker in _markers(item):
                isolated |= set(marker.args) if marker.kwargs.get("isolated") else set()
            item.stash[USES] = tuple(name for name in dict.fromkeys(names) if name not in isolated)
        return item.stash[USES]

    def marked(self, item: pytest.Item) -> dict[str, None]:
        """Return the shared daemons that a test's markers name, in order."""
        markers = [marker for marker in _markers(item) if not marker.kwargs.get("isolated")]
        return dict.fromkeys(name for marker in markers for name in marker.args if name in self.names)

    def isolated_for(self, node: pytest.Item) -> dict[str, None]:
        """Return the daemons of which a test gets its own instance, in order. An invalid marker fails the test."""
        names: dict[str, None] = {}
        for marker in _markers(node):
            self._check(node, marker)
            if marker.kwargs.get("isolated"):
                names |= dict.fromkeys(marker.args)
        return names

    def _check(self, node: pytest.Item, marker: pytest.Mark) -> None:
        unknown = [name for name in marker.args if name not in self.names]
        if unknown:
            pytest.fail(
                f"{node.nodeid}: @pytest.mark.{MARKER}({unknown[0]!r}): unknown daemon; "
                f"configured daemons: {', '.join(self.names)}",
                pytrace=False,
            )
        isolated = marker.kwargs.get("isolated", False)
        if not marker.args or set(marker.kwargs) - {"isolated"} or not isinstance(isolated, bool):
            keywords = [f"{key}={value!r}" for key, value in marker.kwargs.items()]
            got = ", ".join([*map(repr, marker.args), *keywords])
            pytest.fail(
                f"{node.nodeid}: @pytest.mark.{MARKER}({got:.200}): expected names of daemons, and optionally "
                "isolated=True or isolated=False",
                pytrace=False,
            )

    def to_be_started(self, items: Sequence[pytest.Item]) -> Iterable[str]:
        """Return the daemons that these tests will use, except those for which a project has a fixture: that may first
        change or replace them."""
        used: dict[str, None] = {}
        for item in items:
            if self.used_by(item) and not is_left_out(item):
                values = parameters(item)  # may be plain values instead of fixtures
                used |= dict.fromkeys(name for name in self.used_by(item) if fixture_name(name) not in values)
        return (name for name in used if not self.is_overridden(name, items, itself=True))

    def is_overridden(self, name: str, items: Iterable[pytest.Item], *, itself: bool = False) -> bool:
        """Return whether a project overrides the definition fixture or, with `itself`, the daemon's fixture or its
        seed: then the daemon is only started when that fixture is set up."""
        fixture = str(fixture_name(name))
        attributes = [definition_fixture_name(fixture), *([fixture, seed_fixture_name(fixture)] if itself else [])]
        holders: set[Any] = set()
        for item in items:
            holders |= {getattr(item, "module", None), getattr(item, "cls", None)}
        holders |= self._plugins.get_plugins() - {self._plugins.get_plugin(FIXTURES_OF_DAEMONS)}
        return any(hasattr(holder, attribute) for holder in holders for attribute in attributes)


def _markers(item: pytest.Item) -> Iterable[pytest.Mark]:
    """Return our markers of a test. Most have none, which their keywords say sooner than a walk through all markers."""
    return item.iter_markers(MARKER) if MARKER in item.keywords else ()


def parameters(item: pytest.Item) -> dict[str | None, Any]:
    """Return the parameters of a test, by name."""
    values: dict[str | None, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return values


def is_left_out(item: pytest.Item) -> bool:
    """Return whether a test's marks alone rule out that it runs."""
    if any(item.iter_markers("skip")):
        return True
    if any(condition for mark in item.iter_markers("skipif") for condition in mark.args if isinstance(condition, bool)):
        return True
    return any(mark.kwargs.get("run") is False and not mark.args for mark in item.iter_markers("xfail"))
