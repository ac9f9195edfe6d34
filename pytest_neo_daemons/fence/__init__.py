"""Keeps the processes of tests away from the daemons of production supervisors. See `wall` and `hooks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from neo_daemons.interpreter import installed_modules

from ..config_files import ini_directory

if TYPE_CHECKING:
    from ..sessions import Session
    from .hooks import Fence

FENCE: pytest.StashKey[Fence] = pytest.StashKey()


def begin(config: pytest.Config, *, is_on: bool, session: Session | None = None) -> None:
    """Raise the fence, unless it stands already, and let the daemons of the run's session through.

    Args:
        is_on: whether the run has daemons of its own.

    Raises:
        pytest.UsageError: its setting cannot be used.
    """
    fence = config.stash.get(FENCE, None)
    if fence is not None:
        fence.join(session)
        fence.begin()
        return
    with installed_modules():
        from .hooks import NAME, Fence, allowed
    fence = Fence(config, allowed(config, ini_directory(config)), is_on=is_on)
    fence.join(session)
    config.stash[FENCE] = fence
    config.pluginmanager.register(fence, NAME)
    config.add_cleanup(fence.end)
    fence.begin()
