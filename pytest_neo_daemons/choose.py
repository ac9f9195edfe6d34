"""Decides which daemons this run has and who supervises them: its own session, the controller's, or a ``serve``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec import Struct

from neo_daemons.control.client import Client, ControlError
from neo_daemons.definitions import Definition
from neo_daemons.interpreter import installed_modules
from neo_daemons.paths import holds
from neo_daemons.state_dir import StateDir, StateDirError

from . import workers
from .config_files import stated_configuration
from .definitions import wrong_with
from .deployed import NOTHING
from .guard import ENDING, frames
from .sessions import AttachedSession, JoinedSession, OwnSession, Session
from .settings import Options, resolve

if TYPE_CHECKING:
    from neo_daemons.config.configuration import Configuration

MODULE_ENDS = (".py", "/__init__.py", "/__main__.py")
LOOKING = (
    "help",
    "version",
    "markers",
    "showfixtures",
    "show_fixtures_per_test",
    "collectonly",
    "setupplan",
    "cacheshow",
)
"""Options with which pytest runs no tests."""
NOWHERE = StateDir(Path("/nowhere"))
"""A state directory for configurations that are only read."""


class Choice(Struct, frozen=True):
    """The daemons of this process, and its session with them."""

    names: tuple[str, ...]
    """The names of the daemons."""
    session: Session | None = None
    """None if no tests will run."""
    journal_from: int | None = None
    """The byte at which the run begins in the journal; None: at its current end."""
    remark: str | None = None
    """A remark on this choice for the summary."""


def hooked_daemons(config: pytest.Config) -> Iterable[str] | None:
    """Return the daemons that this run would have with the plugin enabled; None if that is unknown."""
    from neo_daemons.config.errors import ConfigError

    try:
        return _load(config, resolve(config), stated_configuration(config), NOWHERE)[1]
    except (ConfigError, StateDirError, pytest.UsageError):
        return None  # the error is reported when the daemons are used


def choose(config: pytest.Config, options: Options) -> Choice:
    """Return the daemons of this run, and this process's session with them.

    Raises:
        pytest.UsageError: an option, a hook or the configuration is invalid.
        ConfigError, StateDirError, ControlError, OSError: the daemons or their session cannot be set up.
    """
    shared = workers.received_session(config)
    worker = workers.worker_id(config)
    if shared is not None and worker is not None:
        state_dir = StateDir(Path(shared.state_dir))
        if shared.attached:
            attached = AttachedSession(state_dir, shared.names)
            attached.external = shared.external
            return Choice(shared.names, attached, shared.journal_from)
        if shared.is_reachable:
            joined = JoinedSession(state_dir, shared.names, worker)
            joined.external, joined.deployed = shared.external, shared.deployed
            return Choice(shared.names, joined, shared.journal_from)
    file = stated_configuration(config)  # only here: a worker that joins a session reads no file
    if any(config.getoption(name, False) for name in LOOKING):
        return Choice(tuple(_load(config, options, file, NOWHERE)[1]))
    if options.attach is not None:
        attached = _attach(config, options, options.attach, file)
        return Choice(attached.names, attached)
    own = _own(config, options, file)
    remark = None
    if worker is not None:
        remark = f"worker {worker} cannot reach the controller's daemons and started its own"
    # The journal of a session that was kept warm also contains the entries of earlier runs.
    return Choice(own.names, own, None if own.reused else 0, remark)


def _attach(config: pytest.Config, options: Options, stated: str, file: Path | None) -> AttachedSession:
    from neo_daemons.config.errors import ConfigError
    from neo_daemons.config.locate import find_state_dir
    from neo_daemons.control.client import NoSupervisor

    if stated:
        try:
            state_dir = find_state_dir(Path(stated))
        except ConfigError as error:
            said = str(error).removeprefix(f"--state-dir {stated}: ")
            raise pytest.UsageError(f"{options.attach_place} {stated}: {said}") from None
    else:
        with contextlib.chdir(config.rootpath):  # where our own session would search, too
            state_dir = find_state_dir(file=file)
        if file is None and config.rootpath != config.invocation_params.dir:
            state_dir = StateDir(state_dir.path)  # a command in this directory may find another one
    try:
        status = Client(state_dir).status()
    except ControlError as error:
        if state_dir.path.is_dir() and not isinstance(error, NoSupervisor):
            raise
        mistaken = ""
        if stated and not (state_dir.path / "journal.jsonl").is_file():
            mistaken = f" ({stated} is not a state directory; if it is a test path, put it before the option)"
        raise pytest.UsageError(
            f"{options.attach_place.removesuffix(' =')}: no supervisor is running in {state_dir.path}{mistaken}; "
            f"start one: {state_dir.command('up')}"
        ) from None
    attached = AttachedSession(state_dir, [daemon.name for daemon in status.daemons])
    attached.external = tuple(one.url for one in status.daemons if one.state == "external" and one.url)
    return attached


def _load(
    config: pytest.Config, options: Options, file: Path | None, state_dir: StateDir
) -> tuple[Configuration, dict[str, Definition]]:
    with installed_modules():
        import tomllib  # noqa: F401 - `load` imports it

        from neo_daemons.config.checks import check_order
        from neo_daemons.config.configuration import load
        from neo_daemons.config.errors import ConfigError
        from neo_daemons.config.external import external

    is_ours = options.engine is None
    configuration = load(
        file, state_dir=state_dir.path, directory=config.rootpath, isolated=is_ours, observing=not is_ours
    )
    for text in configuration.deprecations:
        config.issue_config_time_warning(pytest.PytestDeprecationWarning(text), stacklevel=2)
    definitions = {definition.name: definition for definition in configuration.definitions}
    try:
        definitions |= {name: external(name, url) for name, url in options.urls}
    except ConfigError as error:
        raise pytest.UsageError(f"{options.urls_place} {error}") from None
    _change(config, definitions)
    for name, definition in definitions.items():
        wrong = wrong_with(definition, name)
        if wrong is not None:
            raise pytest.UsageError(f"pytest_neo_daemons_definitions: definitions[{name!r}] {wrong}")
    check_order(definitions.values())
    return configuration, definitions


def _change(config: pytest.Config, definitions: dict[str, Definition]) -> None:
    """Let the project's hook change the definitions.

    Raises:
        pytest.UsageError: the hook failed; the message says where.
    """
    hook = config.hook.pytest_neo_daemons_definitions
    try:
        hook(config=config, definitions=definitions)
    except (pytest.UsageError, *ENDING):
        raise
    except BaseException as error:
        bodies = {implementation.function.__code__ for implementation in hook.get_hookimpls()}
        places = [f"{f.f_code.co_filename}:{line}: " for f, line in frames(error) if f.f_code in bodies]
        raise pytest.UsageError(
            f"neo-daemons: {''.join(places[:1])}pytest_neo_daemons_definitions failed: {type(error).__name__}: {error}"
        ) from None


def _runs_files_of(root: Path, definition: Definition) -> bool:
    """Return whether the command of a daemon names a file or a Python module of the project."""
    cwd = root / definition.cwd
    for stated in definition.command:
        argument = stated.replace("${project}", str(root))
        if "${" in argument:
            continue
        module = argument.partition(":")[0]  # of "app.main:app"
        below = module.replace(".", "/")
        names = [argument]
        if all(part.isidentifier() for part in module.split(".")):
            names += [f"{place}{below}{end}" for place in ("", "src/") for end in MODULE_ENDS]
        if any(_is_source(root, cwd / name) for name in names):
            return True
    return False


def _is_source(root: Path, path: Path) -> bool:
    """Return whether a path is that of a file in the project, but not in a virtual environment or the like."""
    path = Path(os.path.normpath(path))
    if not path.is_relative_to(root) or not holds(path.is_file):
        return False
    from neo_daemons.watched import is_left_out

    inside = path.relative_to(root).parents
    return not any(is_left_out(str(root / place.parent), place.name) for place in inside if place.name)


def _own(config: pytest.Config, options: Options, file: Path | None) -> OwnSession:
    with installed_modules():
        from neo_daemons.ephemeral.launch import own

    from . import early

    standby = early.take(config)
    owned = own(config.rootpath, file, warm=options.keep_s > 0, standby=standby)
    try:
        configuration, definitions = _load(config, options, file, owned.state_dir)
        names, deployed = tuple(definitions), NOTHING
        if options.engine is not None:
            from .engine import deploy

            definitions, deployed = deploy(options.engine, options.namespace, definitions, configuration.project.root)
        configuration = msgspec.structs.replace(configuration, definitions=tuple(definitions.values()))
        found = owned.begin(configuration, keep_s=options.keep_s)
    except BaseException:
        owned.abandon()
        raise
    session = OwnSession(owned, names, found=found)
    session.deployed = deployed
    session.external = tuple(one.external for one in definitions.values() if one.external)
    session.not_reused = owned.not_reused
    root = configuration.project.root
    session.unwatched = tuple(name for name, one in definitions.items() if not one.files and _runs_files_of(root, one))
    return session
