"""``exec``: run a command while the daemons that it uses are running."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neo_daemons.config.configuration import load
from neo_daemons.config.errors import ConfigError
from neo_daemons.config.project import Configuration
from neo_daemons.control.client import REMADE_S, Client, ControlError, Unreachable
from neo_daemons.similar import among
from neo_daemons.supervision.platform import foreground

from .background import POLL_S
from .codes import FAILED
from .env import merged
from .selection import names_of
from .streams import complain
from .use import used, wait_until_ready

if TYPE_CHECKING:
    from neo_daemons.ephemeral.launch import Owned

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""The exit codes of a shell for a command that is missing, or that cannot be executed."""


def execute(options: argparse.Namespace) -> int:
    """Run a command with daemons, and return its exit code."""
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        options.parser.error("a command is missing, as in: neo-daemons exec --with chroma -- pytest")
    if shutil.which(words[0]) is None:  # before anything is started
        if Path(words[0]).exists():
            return complain(f"{words[0]}: not executable", NOT_EXECUTABLE)
        return complain(f"{words[0]}: command not found", NOT_FOUND)
    holder = f"exec {shlex.join(words)}"[:200]
    if options.isolated:
        return _run_isolated(options, words, holder)
    configuration = load(options.config, state_dir=options.state_dir)
    names = _names(options, configuration)
    with used(configuration.state, options.config, names, holder, options.wait):
        return _run(Client(configuration.state, patience_s=REMADE_S), names, words)


def _names(options: argparse.Namespace, configuration: Configuration) -> list[str]:
    known = {definition.name: definition for definition in configuration.definitions}
    names = names_of(known.values(), options.names)
    for name in names:
        if name not in known:
            raise ConfigError(f"--with {name}: unknown daemon; configured daemons: {among(name, known)}")
    return names or [name for name, one in known.items() if one.enabled and one.share]


def _run(client: Client, names: Sequence[str], words: Sequence[str]) -> int:
    daemons = {daemon.name: daemon for daemon in client.status().daemons}
    variables = merged([daemons[name] for name in names if name in daemons])
    if isinstance(variables, str):
        return complain(variables, FAILED)
    try:
        return foreground.run(words, {**os.environ, **variables})
    except OSError as error:
        return complain(f"{words[0]}: {error.strerror}", NOT_EXECUTABLE)


def _run_isolated(options: argparse.Namespace, words: Sequence[str], holder: str) -> int:
    """Run a command with a session of its own, as a pytest run has."""
    from neo_daemons.ephemeral.launch import own

    root = load(options.config, state_dir=options.state_dir).project.root
    owned = own(root, options.config, warm=False)
    try:
        configuration = load(options.config, state_dir=owned.state_dir.path, isolated=True)
        names = _names(options, configuration)
        owned.begin(configuration, keep_s=0.0)
    except BaseException:
        owned.abandon()
        raise
    client = Client(owned.state_dir, patience_s=REMADE_S)
    try:
        _wait_until_there(owned, client)
        with client.lease(holder, needs=names, owner=True):
            wait_until_ready(client, names, options.wait)
            code = _run(client, names, words)
    finally:
        owned.release()
        owned.wait_until_gone()
    return code


def _wait_until_there(owned: Owned, client: Client) -> None:
    """Wait for the first answer of the supervisor of a session."""
    while True:
        try:
            client.status()
            return
        except Unreachable:
            if not owned.supervisor_lives():
                raise ControlError(f"the supervisor exited immediately: {owned.last_words()}") from None
        time.sleep(POLL_S)
