"""Finding the session of a process: which daemons this run has, and who supervises them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from neo_daemons.control.client import Client, ControlError
from neo_daemons.definitions import Definition
from neo_daemons.state_dir import StateDir, StateDirError

from .guard import ENDING, frames
from .options import Options, resolve
from .sessions import AttachedSession, JoinedSession, OwnSession, Session, is_reachable

if TYPE_CHECKING:
    from neo_daemons.config.configuration import Configuration

WORKER_KEY = "neo_daemons"
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
"""Options with which no test is run."""
NOWHERE = StateDir(Path("/nowhere"))
"""Where nothing will be run."""


def hooked(config: pytest.Config) -> Iterable[str] | None:
    """The daemons that this run would have, switched on; None if that cannot be told."""
    from neo_daemons.config.errors import ConfigError

    try:
        return _load(config, resolve(config), NOWHERE)[1]
    except (ConfigError, StateDirError, pytest.UsageError):
        return None  # what is wrong will be said when it is used


def join(config: pytest.Config, options: Options) -> tuple[Session | None, tuple[str, ...], str | None]:
    """The session of this process (None where no test will be run), the names of its daemons, and something to say."""
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    told = workerinput.get(WORKER_KEY) if workerinput is not None else None
    if told is not None and workerinput is not None:
        names, state = tuple(told["names"]), StateDir(Path(told["state_dir"]))
        if told["attached"]:
            return AttachedSession(state, names), names, None
        if is_reachable(told["state_dir"], told["machine"]):
            return JoinedSession(state, names, workerinput["workerid"]), names, None
    if any(config.getoption(name, False) for name in LOOKING):
        return None, tuple(_load(config, options, NOWHERE)[1]), None
    if options.attach is not None:
        attached = _attach(config, options, options.attach)
        return attached, attached.names, None
    own = _own(config, options)
    remark = None
    if workerinput is not None:
        remark = f"worker {workerinput['workerid']} cannot reach the daemons of the controller, and has its own"
    return own, own.names, remark


def _attach(config: pytest.Config, options: Options, stated: str) -> AttachedSession:
    from neo_daemons.config.locate import find_state_dir
    from neo_daemons.control.client import NoSupervisor

    if stated:
        state = find_state_dir(Path(stated))
    else:
        with contextlib.chdir(config.rootpath):  # where a session of our own looks, too
            state = find_state_dir(file=options.config)
    try:
        status = Client(state).status()
    except ControlError as error:
        if state.path.is_dir() and not isinstance(error, NoSupervisor):
            raise
        mistaken = ""
        if stated and not (state.path / "journal.jsonl").is_file():
            mistaken = f" ({stated} is no state directory: was it meant as a test path? Then put it first)"
        raise pytest.UsageError(
            f"--neo-daemons-attach: no supervisor is running for {state.path}{mistaken}; start one with: neo-daemons up"
        ) from None
    return AttachedSession(state, [daemon.name for daemon in status.daemons])


def _load(config: pytest.Config, options: Options, state: StateDir) -> tuple[Configuration, dict[str, Definition]]:
    from neo_daemons.config.checks import check_order
    from neo_daemons.config.configuration import load
    from neo_daemons.config.errors import ConfigError
    from neo_daemons.config.external import external

    configuration = load(options.config, state_dir=state.path, directory=config.rootpath, isolated=True)
    definitions = {definition.name: definition for definition in configuration.definitions}
    try:
        definitions |= {name: external(name, url) for name, url in options.urls}
    except ConfigError as error:
        raise pytest.UsageError(f"--neo-daemons-url {error}") from None
    _change(config, definitions)
    for name, definition in definitions.items():
        wrong = wrong_with(definition, name)
        if wrong is not None:
            raise pytest.UsageError(f"pytest_neo_daemons_definitions: definitions[{name!r}] {wrong}")
    check_order(definitions.values())
    return configuration, definitions


def _change(config: pytest.Config, definitions: dict[str, Definition]) -> None:
    """Have the project change them.

    Raises:
        pytest.UsageError: its hook has failed; says where.
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


def wrong_with(definition: object, name: str) -> str | None:
    """Why that is no definition of a daemon called `name`; None if it is one. Making one does not validate it, and a
    supervisor could not even read what is wrong."""
    if not isinstance(definition, Definition) or definition.name != name:
        return f"must be a Definition of that name, and is {definition!r:.200}"
    try:
        msgspec.convert(msgspec.to_builtins(definition), Definition)
    except (msgspec.ValidationError, TypeError) as error:
        return f"cannot be used: {error}"
    return None


def _own(config: pytest.Config, options: Options) -> OwnSession:
    from neo_daemons.ephemeral.launch import own

    owned = own(config.rootpath, options.config, warm=options.keep_s > 0)
    try:
        configuration, definitions = _load(config, options, owned.state)
        configuration = msgspec.structs.replace(configuration, definitions=tuple(definitions.values()))
        found = owned.begin(configuration, keep_s=options.keep_s)
    except BaseException:
        owned.abandon()
        raise
    return OwnSession(owned, definitions, found=found)
