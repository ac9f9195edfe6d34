"""Finds the programs of the built-in daemons on this machine; each daemon has a module.

Their default settings are in `neo_daemons.config.builtins`. Nothing here starts a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import msgspec

from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch

MODULES: Mapping[str, str] = {"chroma": "chroma", "bridge": "bridge", "mlx": "mlx", "neural-link": "neural_link"}
"""For each name in `neo_daemons.config.builtins.BUILTINS`, the module here whose `locate` finds its program."""


def resolve(definition: Definition, project: Project) -> Launch | CannotRun:
    """Return how to run `definition` on this machine, with digests of the files that a run depends on."""
    launch = _locate(definition, project)
    if definition.user is not None and isinstance(launch, Launch):
        launch = _as_user(launch, definition)
    if not definition.files or isinstance(launch, CannotRun):
        return launch
    from neo_daemons.watched import CannotWatch, digests

    try:
        return msgspec.structs.replace(launch, watched=digests(definition.files, project.root))
    except CannotWatch as error:
        key = "inputs" if definition.inputs else "watch"
        return CannotRun(reason=f"{key}: {error}", remedy=f"correct daemons.{definition.name}.{key}", missing=False)


def _as_user(launch: Launch, definition: Definition) -> Launch | CannotRun:
    """Return how to run it as the user that its definition names."""
    from neo_daemons.accounts import account_of

    account = account_of(definition)
    if account is None or isinstance(account, CannotRun):
        return account or launch
    env = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    return msgspec.structs.replace(launch, account=account, env={**env, **launch.env})


def _locate(definition: Definition, project: Project) -> Launch | CannotRun:
    """Return how to run `definition`: by its own command, or as the catalog finds it."""
    if definition.builtin is None or definition.command:
        return Launch(command=definition.command)
    found: Launch | CannotRun = import_module(f"{__name__}.{MODULES[definition.builtin]}").locate(definition, project)
    return found
