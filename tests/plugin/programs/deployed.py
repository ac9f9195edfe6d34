"""Tests of daemons that an engine runs."""

# mypy: ignore-errors

import os

import pytest
from helpers import get

from pytest_neo_daemons import FaultRefused, seed


@pytest.mark.parametrize("number", range(4))
def test_same(api, number):
    assert get(api.url) == 200
    assert api.port != int(os.environ["DEPLOYED"])
    assert api.url == f"http://127.0.0.1:{api.port}"
    assert (api.external, api.pid, api.data_dir) == (True, None, None)


@pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
def test_refused(api, fault):
    with pytest.raises(FaultRefused, match=r"Kubernetes \(namespace staging\) runs it"):
        getattr(api, fault)()


def test_where(api):
    assert api.env == {"API_URL": f"{api.url}/x"}
    assert "Forwarding from" in api.logs()


def test_done(migrations):
    assert migrations.external


@pytest.fixture
def new(new_daemon):
    return new_daemon("api")


def test_new(new):
    pass


@seed("api")
def docs(daemon):
    pass


@pytest.fixture
def seeded(new_daemon):
    return new_daemon("api", seed=docs)


def test_seed(seeded):
    pass


def test_quiet(quiet):
    pass
