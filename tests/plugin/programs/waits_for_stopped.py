"""Waits for a daemon that it has stopped."""

# mypy: ignore-errors

import pytest

from pytest_neo_daemons import Unavailable


@pytest.fixture(params=["shared", "own"])
def daemon(request, api, new_daemon):
    return api if request.param == "shared" else new_daemon("api")


def test_waits(daemon, neo_daemons):
    daemon.stop()
    for timeout_s in (0.1, 60):
        with pytest.raises(Unavailable, match=r"was stopped and stays stopped until start\(\)"):
            daemon.wait_ready(timeout_s)
    assert (daemon.pid, daemon.state) == (None, "stopped")
    daemon.start()
    daemon.wait_ready(0)
    daemon.stop()
    daemon.restart()
    assert daemon.state == "ready"


def test_next(api):
    assert api.state == "ready"
