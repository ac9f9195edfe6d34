"""What pytest loads: options, hook specifications, and fixtures that skip. The rest comes with ``--neo-daemons``.

Installed and unused, this module is all of ours that is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from neo_daemons.definitions import Definition

    from .handles import Daemon
    from .incidents import Incident

BUILTINS = ("chroma", "bridge", "mlx")
CLIENTS = ("chroma_client", "bridge_graph", "mlx_client", "new_daemon")
MARKER = (
    "neo_daemons(*names, isolated=False): the test uses these daemons; "
    "with isolated=True their fixtures are new_daemon(name), so that it may kill, pause or stop them"
)
OLDEST = (8, 4)
FILES = ("neo-daemons.toml", "pyproject.toml")
IMPLYING = ("--neo-daemons-keep", "--neo-daemons-attach", "--neo-daemons-url")
"""Options that switch the plugin on by themselves."""
REASON = "needs daemons: run pytest with --neo-daemons"


RESERVED = frozenset(
    {
        "cache", "capfd", "capfdbinary", "caplog", "capsys", "capsysbinary", "capteesys", "config", "doctest_namespace",
        "monkeypatch", "neo_daemons", "pytestconfig", "pytester", "record_property", "record_testsuite_property",
        "record_xml_attribute", "recwarn", "request", "subtests", "testrun_uid", "tmp_path", "tmp_path_factory",
        "tmpdir", "tmpdir_factory", "worker_id", *CLIENTS,
    }
)  # fmt: skip
"""Names that pytest and xdist use; a daemon that is called so is reached by ``neo_daemons["NAME"]``."""


class HookSpecs:
    """Hooks that a conftest.py or plugin can implement."""

    @pytest.hookspec
    def pytest_neo_daemons_definitions(self, config: pytest.Config, definitions: dict[str, Definition]) -> None:
        """Change the daemons of this run: replace, add or remove entries of `definitions`, by name.

        Called once, before collection, in the process that starts the supervisor (the controller, with xdist). Only
        conftest files that pytest loads before collection are heard: those of the root directory and of the paths
        given. Without ``--neo-daemons`` it is called in each process, only to know which tests are to be skipped. See
        also the fixtures ``NAME_definition``.
        """

    @pytest.hookspec
    def pytest_neo_daemons_ready(self, config: pytest.Config, daemon: Daemon) -> None:
        """`daemon` is ready for the first time in this process. Called in each process that uses it."""

    @pytest.hookspec
    def pytest_neo_daemons_died(self, config: pytest.Config, incident: Incident) -> None:
        """A daemon has died, or was ended by its probes. Called at the end of the test phase in which that was, in
        each process that uses daemons; also for faults that a test asked for (`Incident.asked_for`)."""

    @pytest.hookspec
    def pytest_neo_daemons_restarted(self, config: pytest.Config, incident: Incident) -> None:
        """A daemon that had died is ready again. Called as ``pytest_neo_daemons_died``."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(HookSpecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("neo-daemons", "real background daemons as fixtures")
    group.addoption(
        "--neo-daemons", action="store_true", default=False, help="start the daemons that the selected tests use"
    )
    group.addoption(
        "--neo-daemons-config",
        metavar="FILE",
        default=None,
        help="configuration to use instead of neo-daemons.toml or [tool.neo_daemons] of pyproject.toml",
    )
    group.addoption(
        "--neo-daemons-keep",
        metavar="DURATION",
        default=None,
        help="keep the daemons that long after the run, for the next one: seconds, or such as 90s, 10m, 1h30m",
    )
    group.addoption(
        "--neo-daemons-attach",
        metavar="STATE_DIR",
        nargs="?",
        const="",
        default=None,
        help="use the daemons of a running serve, by default this project's; they are never stopped",
    )
    group.addoption(
        "--neo-daemons-url",
        metavar="NAME=URL",
        action="append",
        default=None,
        help="use a daemon that somebody else runs: it is observed, never controlled (may be given repeatedly)",
    )
    parser.addini("neo_daemons", "as --neo-daemons", type="bool", default=False)
    parser.addini("neo_daemons_config", "as --neo-daemons-config; relative to this file", default="")
    parser.addini("neo_daemons_keep", "as --neo-daemons-keep", default="")
    parser.addini("neo_daemons_attach", "as --neo-daemons-attach; relative to this file", default="")
    parser.addini("neo_daemons_url", "as --neo-daemons-url, one a line", type="linelist", default=[])
    parser.addini("neo_daemons_required", "without --neo-daemons, fail instead of skip", type="bool", default=False)
    parser.addini("neo_daemons_export_env", "set the variables that clients read", type="bool", default=False)


def is_on(config: pytest.Config) -> bool:
    """Whether daemons are asked for: by the flag or its setting, or by an option that makes no sense without it."""
    return (
        config.getoption("--neo-daemons")
        or config.getini("neo_daemons")
        or any(config.getoption(option) is not None for option in IMPLYING)
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if is_on(config):
        if pytest.version_tuple < OLDEST:
            raise pytest.UsageError(f"--neo-daemons needs pytest 8.4 or newer, and this is {pytest.__version__}")
        _import_from_installed_packages()
        from .activation import activate

        activate(config)
    else:
        off = _Off(config, config.getini("neo_daemons_required"))
        config.pluginmanager.register(off, "neo_daemons_off")
        off.skip(*CLIENTS, "neo_daemons", daemons=[*BUILTINS, *_configured(config)])


def fixture_name(daemon: str) -> str | None:
    """The name of a daemon's fixture; None if that would hide another one, or be taken for a hook."""
    name = daemon.replace("-", "_")
    return None if name in RESERVED or name.startswith("pytest_") else name


def shared_fixture_name(daemon: str) -> str:
    """The name of the fixture that makes the handle of a shared daemon, whatever a project makes of ``NAME``."""
    return f"_neo_daemons_shared_{daemon}"


class _Off:
    """Skips the tests that use daemons."""

    def __init__(self, config: pytest.Config, required: bool) -> None:
        self._config = config
        self._required = required
        self._known: set[str] = set()

    def skip(self, *fixtures: str, daemons: Iterable[str]) -> None:
        """Have these fixtures, and those of these daemons, skip."""
        new = {*fixtures, *daemons, *(f"{name}_definition" for name in daemons)} - self._known
        if new:
            made = types.ModuleType(f"pytest_neo_daemons.off_{len(self._known)}")
            for name in new:
                setattr(made, name, _skipping(name, self._required))
            self._known |= new
            self._config.pluginmanager.register(made)

    def pytest_collect_directory(self, path: Path) -> None:
        """A project below the root directory may have daemons of its own."""
        with contextlib.suppress(Exception):  # whatever is there: this run is none of ours
            daemons = in_directory(path) if path != self._config.rootpath else None
            if daemons:
                self.skip(daemons=[name for name in map(fixture_name, daemons) if name is not None])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if any(item.iter_markers("neo_daemons")):
            _refuse(self._required)


def _skipping(name: str, required: bool) -> Any:
    @pytest.fixture(name=name, scope="session")
    def fixture() -> None:
        """A daemon, with --neo-daemons."""
        _refuse(required)

    return fixture


def _refuse(required: bool) -> None:
    if required:
        pytest.fail(f"{REASON} (neo_daemons_required is set)", pytrace=False)
    pytest.skip(REASON)


def stated_configuration(config: pytest.Config) -> Path | None:
    """The configuration file that is asked for: by the option, relative to the working directory; or by the setting,
    relative to its file. Where there is none from the root directory upwards, the only one of the paths given."""
    stated = config.getoption("--neo-daemons-config")
    base: Path = config.invocation_params.dir
    if not stated:
        stated = config.getini("neo_daemons_config")
        base = ini_directory(config)
    if stated:
        return base / str(stated)
    if any(in_directory(directory) is not None for directory in (config.rootpath, *config.rootpath.parents)):
        return None
    paths = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    found = {configuration_above(path, config.rootpath) for path in paths}
    return found.pop() if len(found) == 1 else None


def configuration_above(path: Path, root: Path) -> Path | None:
    """The nearest configuration file in the directories of a path that are below the root directory."""
    for directory in (path, *path.parents):
        if root not in directory.parents:
            return None
        for name in FILES:
            if in_file(directory / name) is not None:
                return directory / name
    return None


def _import_from_installed_packages() -> None:
    """Import what a run needs, and not what a project has that is called alike: pytest puts the directories of tests
    first on the import path, and ``python -m pytest`` the working directory."""
    from neo_daemons.interpreter import installed_first

    path, sys.path[:] = sys.path[:], installed_first()
    try:
        from neo_daemons.ephemeral.launch import import_all

        from .activation import activate  # noqa: F401

        import_all()
    finally:
        sys.path[:] = path


def ini_directory(config: pytest.Config) -> Path:
    """What paths in settings are relative to."""
    return config.inipath.parent if config.inipath is not None else config.rootpath


def _configured(config: pytest.Config) -> Iterable[str]:
    """Names of the fixtures of the daemons that this run would have."""
    daemons: Iterable[str] | None = None
    if config.hook.pytest_neo_daemons_definitions.get_hookimpls():
        from .joining import hooked  # only the hook knows

        daemons = hooked(config)
    if daemons is None:
        urls = config.getini("neo_daemons_url")
        daemons = [*_in_project(config), *(text.partition("=")[0].strip() for text in urls)]
    return [name for name in map(fixture_name, daemons) if name is not None]


def _in_project(config: pytest.Config) -> list[str]:
    """The daemons of a project that has a configuration of ours."""
    stated = stated_configuration(config)
    if stated is not None:
        return in_file(stated) or []
    found = map(in_directory, (config.rootpath, *config.rootpath.parents))
    return next((names for names in found if names is not None), [])


def in_directory(path: Path) -> list[str] | None:
    """The daemons that a directory's configuration names; None if it has none."""
    found = (in_file(path / name) for name in FILES)
    return next((names for names in found if names is not None), None)


def in_file(path: Path) -> list[str] | None:
    """The daemons that a configuration file names; None if `neo_daemons.config` would not take it for one. What is
    wrong with it is said when it is used."""
    in_pyproject = path.name == "pyproject.toml"
    try:
        data = path.read_bytes()
    except (OSError, ValueError):
        return [] if not in_pyproject and os.path.lexists(path) else None
    if in_pyproject and b"neo_daemons" not in data:
        return None
    import tomllib

    try:
        content: Any = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return []
    if in_pyproject:
        tool = content.get("tool")
        if not isinstance(tool, dict) or "neo_daemons" not in tool:
            return None  # it only mentions our table
        content = tool["neo_daemons"]
    daemons = content.get("daemons") if isinstance(content, dict) else None
    return list(daemons) if isinstance(daemons, dict) else []
