"""What `doctor` finds."""

from __future__ import annotations

import socket
from pathlib import Path
from unittest import mock

from neo_daemons.definitions import Definition, Port
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision import survey
from neo_daemons.supervision.ownership import Ownership
from neo_daemons.supervision.platform import current_platform


def test_a_port_holder_that_the_system_does_not_name_is_called_unidentified(tmp_path: Path) -> None:
    """It read "port 8000 is held by None"."""
    platform = current_platform()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        mock.patch.object(platform, "port_holder", return_value=None),
    ):
        number = server.getsockname()[1]
        definition = Definition(name="api", command=("true",), ports={"main": Port(fixed=number)})
        found = survey._ports(definition, Ownership(platform, StateDir(tmp_path)), platform)
    assert [finding.text for finding in found] == [f"port {number} is held by an unidentified process"]
