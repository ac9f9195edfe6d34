"""Which daemons does this run have, and who supervises them: a session of its own, the controller's, or a ``serve``?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec import Struct

from neo_daemons.control.client import Client, ControlError
from neo_daemons.definitions import Definition
from neo_daemons.state_dir import StateDir, StateDirError

from . import workers
from .definitions import wrong_with
from .guard import ENDING, frames
from .options import Options, resolve
from .sessions import AttachedSession, JoinedSession, OwnSession, Session

if TYPE_CHECKING:
    from neo_daemons.config.configuration import Configuration

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


class Choice(Struct, frozen=True):
    """What this process has to do with daemons."""

    names: tuple[str, ...]
    """Of the daemons."""
    session: Session | None = None
    """None where no test will be run."""
    journal_from: int | None = None
    """Byte at which the run begins in the journal; None: at its present end."""
    remark: str | None = None
    """What the summary is to say of this choice."""


def hooked_daemons(config: pytest.Config) -> Iterable[str] | None:
    """The daemons that this run would have, switched on; None if that cannot be told."""
    from neo_daemons.config.errors import ConfigError

    try:
        return _load(config, resolve(config), NOWHERE)[1]
    except (ConfigError, StateDirError, pytest.UsageError):
        return None  # what is wrong will be said when it is used


def choose(config: pytest.Config, options: Options) -> Choice:
    """The daemons of this run, and this process's session with them.

    Raises:
        pytest.UsageError: what the user or the project asks for cannot be done.
        ConfigError, StateDirError, ControlError, OSError: it cannot be done here and now.
    """
    shared = workers.received_session(config)
    worker = workers.worker_id(config)
    if shared is not None and worker is not None:
        state_dir = StateDir(Path(shared.state_dir))
        if shared.attached:
            return Choice(shared.names, AttachedSession(state_dir, shared.names), shared.journal_from)
        if shared.is_reachable:
            return Choice(shared.names, JoinedSession(state_dir, shared.names, worker), shared.journal_from)
    if any(config.getoption(name, False) for name in LOOKING):
        return Choice(tuple(_load(config, options, NOWHERE)[1]))
    if options.attach is not None:
        attached = _attach(config, options, options.attach)
        return Choice(attached.names, attached)
    own = _own(config, options)
    remark = None
    if worker is not None:
        remark = f"worker {worker} cannot reach the controller's daemons and started its own"
    # The journal of a session that was kept warm has the entries of earlier runs, too.
    return Choice(own.names, own, None if own.reused else 0, remark)


def _attach(config: pytest.Config, options: Options, stated: str) -> AttachedSession:
    from neo_daemons.config.locate import find_state_dir
    from neo_daemons.control.client import NoSupervisor

    if stated:
        state_dir = find_state_dir(Path(stated))
    else:
        with contextlib.chdir(config.rootpath):  # where a session of our own looks, too
            state_dir = find_state_dir(file=options.config)
    try:
        status = Client(state_dir).status()
    except ControlError as error:
        if state_dir.path.is_dir() and not isinstance(error, NoSupervisor):
            raise
        mistaken = ""
        if stated and not (state_dir.path / "journal.jsonl").is_file():
            mistaken = f" ({stated} is not a state directory; if it is a test path, put it before the option)"
        raise pytest.UsageError(
            f"--neo-daemons-attach: no supervisor is running in {state_dir.path}{mistaken}; start one: neo-daemons up"
        ) from None
    return AttachedSession(state_dir, [daemon.name for daemon in status.daemons])


def _load(config: pytest.Config, options: Options, state_dir: StateDir) -> tuple[Configuration, dict[str, Definition]]:
    from neo_daemons.config.checks import check_order
    from neo_daemons.config.configuration import load
    from neo_daemons.config.errors import ConfigError
    from neo_daemons.config.external import external

    configuration = load(options.config, state_dir=state_dir.path, directory=config.rootpath, isolated=True)
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


def _own(config: pytest.Config, options: Options) -> OwnSession:
    from neo_daemons.ephemeral.launch import own

    owned = own(config.rootpath, options.config, warm=options.keep_s > 0)
    try:
        configuration, definitions = _load(config, options, owned.state_dir)
        configuration = msgspec.structs.replace(configuration, definitions=tuple(definitions.values()))
        found = owned.begin(configuration, keep_s=options.keep_s)
    except BaseException:
        owned.abandon()
        raise
    return OwnSession(owned, definitions, found=found)
