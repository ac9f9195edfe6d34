"""Without ``--neo-daemons``: skips the tests that use daemons, or fails them if daemons are required."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .config_files import check_option, directory_daemons, fault_of, project_configuration
from .names import BUILTINS, CLIENTS, MARKER, definition_fixture_name, fixture_name, seed_fixture_name
from .options import flag

REASON = "needs daemons: run pytest with --neo-daemons"


def skip_what_needs_daemons(config: pytest.Config) -> None:
    """Register the fixtures and hooks of a run without daemons.

    Raises:
        pytest.UsageError: an option or setting cannot be used.
    """
    check_option(config)
    daemons, suspect = _configured(config)
    off = _Off(config, flag(config, "neo_daemons_required"), suspect)
    config.pluginmanager.register(off, "neo_daemons_off")
    off.skip(*CLIENTS, "neo_daemons", daemons=[*BUILTINS, *daemons])


class _Off:
    """Skips the tests that use daemons.

    Args:
        suspect: a configuration file without daemons, which may be broken.
    """

    def __init__(self, config: pytest.Config, required: bool, suspect: Path | None) -> None:
        self._config = config
        self._suspect = suspect
        self._required = required
        self._fixture = _skipping(required)
        self._known: set[str] = set()

    def skip(self, *fixtures: str, daemons: Iterable[str]) -> None:
        """Make these fixtures, and those of these daemons, skip their tests."""
        of_daemons = {made(name) for name in daemons for made in (definition_fixture_name, seed_fixture_name)}
        new = {*fixtures, *daemons, *of_daemons} - self._known
        if new:
            made = types.ModuleType(f"pytest_neo_daemons.off_{len(self._known)}")
            for name in new:
                setattr(made, name, self._fixture)
            self._known |= new
            self._config.pluginmanager.register(made)

    def pytest_report_header(self) -> str | None:
        """Say why the daemons of the project have no fixtures."""
        fault = fault_of(self._suspect) if self._suspect is not None else None
        return f"neo-daemons: no fixtures of daemons: {self._suspect}: {fault}" if fault is not None else None

    def pytest_collect_directory(self, path: Path) -> None:
        """Also skip the tests that use daemons of a project below the root directory."""
        with contextlib.suppress(Exception):  # nothing in there may disturb a run without daemons
            daemons = directory_daemons(path) if path != self._config.rootpath else None
            if daemons:
                self.skip(daemons=[name for name in map(fixture_name, daemons) if name is not None])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if any(item.iter_markers(MARKER)):
            _refuse(self._required)


def _skipping(required: bool) -> Any:
    """Return a fixture that skips its test, whatever its name."""

    @pytest.fixture(scope="session")
    def fixture() -> None:
        """Needs --neo-daemons; run `pytest --neo-daemons --fixtures` for its description."""
        _refuse(required)

    return fixture


def _refuse(required: bool) -> None:
    if required:
        pytest.fail(f"{REASON} (neo_daemons_required is set)", pytrace=False)
    pytest.skip(REASON)


def _configured(config: pytest.Config) -> tuple[list[str], Path | None]:
    """Return the names of the fixtures of the daemons that this run would have. If there are none, also return the
    configuration file, if there is one."""
    file, daemons = None, None
    if config.hook.pytest_neo_daemons_definitions.get_hookimpls():
        from .choose import hooked_daemons  # only the hook knows

        daemons = hooked_daemons(config)
    if not daemons:
        file, stated = project_configuration(config)
        urls = config.getini("neo_daemons_url")
        daemons = [*stated, *(text.partition("=")[0].strip() for text in urls)] if daemons is None else daemons
    return [name for name in map(fixture_name, daemons) if name is not None], None if daemons else file
