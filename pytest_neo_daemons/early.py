"""Starts a supervisor while pytest is still starting: it imports its modules meanwhile. See `ephemeral.standby`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from neo_daemons.interpreter import installed_modules

if TYPE_CHECKING:
    from neo_daemons.ephemeral.standby import Standby

STANDBY = pytest.StashKey["Standby"]()


def begin(config: pytest.Config) -> None:
    """Start it. If that fails, one is started when the session begins, which reports why."""
    with contextlib.suppress(Exception), installed_modules():
        # Not from `launch`: the supervisor imports its modules while this process imports those of the client.
        from neo_daemons.ephemeral.standby import stand_by

        config.stash[STANDBY] = standby = stand_by()
        config.add_cleanup(standby.close)


def take(config: pytest.Config) -> Standby | None:
    """Return the supervisor that was started, if any."""
    standby = config.stash.get(STANDBY, None)
    if standby is not None:
        del config.stash[STANDBY]
    return standby
