"""Uses a daemon that is given by its URL, and asks for what only a supervisor can do."""

# mypy: ignore-errors

import os

import pytest
from helpers import get

from pytest_neo_daemons import FaultRefused

PORT = int(os.environ["PORT"])


def test_used(api, neo_daemons):
    assert (api.pid, api.external, api.state, api.data_dir) == (None, True, "external", None)
    assert (api.url, api.host, api.port) == (f"http://127.0.0.1:{PORT}", "127.0.0.1", PORT)
    assert get(api.url) == 200
    assert set(neo_daemons) == {"own", "api", "dead"}


@pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
def test_refused(api, fault):
    with pytest.raises(FaultRefused, match=f"cannot {fault} api: it is external"):
        getattr(api, fault)()


@pytest.mark.neo_daemons("api", isolated=True)
def test_isolated(api):
    pass


def test_dead(dead):
    pass


def test_own(own):
    assert get(own.url) == 200
