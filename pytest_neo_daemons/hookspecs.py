"""The hooks that a conftest.py or plugin can implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from neo_daemons.definitions import Definition

    from .handles import Daemon
    from .incidents import Incident


class HookSpecs:
    """Hooks that a conftest.py or plugin can implement."""

    @pytest.hookspec
    def pytest_neo_daemons_definitions(self, config: pytest.Config, definitions: dict[str, Definition]) -> None:
        """Change the daemons of this run: replace, add or remove entries of `definitions`, by name.

        Called once, before collection, in the process that starts the supervisor (with xdist, the controller). pytest
        only calls it in conftest files that it loads before collection: those of the root directory and of the given
        paths. Without ``--neo-daemons`` it is called in each process, only to know which tests to skip. See also the
        fixtures ``NAME_definition``.
        """

    @pytest.hookspec
    def pytest_neo_daemons_ready(self, config: pytest.Config, daemon: Daemon) -> None:
        """`daemon` is ready for the first time in this process. Called in each process that uses it."""

    @pytest.hookspec
    def pytest_neo_daemons_died(self, config: pytest.Config, incident: Incident) -> None:
        """A daemon has died, or was stopped because its probes failed. Called at the end of the test phase in which
        that happened, in each process that uses daemons, also for faults that a test requested
        (`Incident.asked_for`)."""

    @pytest.hookspec
    def pytest_neo_daemons_restarted(self, config: pytest.Config, incident: Incident) -> None:
        """A daemon that had died is ready again. Called like ``pytest_neo_daemons_died``."""
