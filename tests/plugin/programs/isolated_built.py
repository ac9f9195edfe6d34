"""Builds a fixture on isolated daemons that asks them in its teardown."""

# mypy: ignore-errors

import urllib.request

import pytest

PIDS = []


def get(url):
    return urllib.request.urlopen(url).status


@pytest.fixture
def built(api):
    yield api.url
    assert get(api.url) == 200


@pytest.mark.neo_daemons("api", isolated=True)
@pytest.mark.parametrize("number", range(3))
def test_isolated(api, built, number):
    assert get(built) == 200
    assert api.pid not in PIDS
    PIDS.append(api.pid)


def test_shared(api, built):
    assert built == api.url
    assert api.pid not in PIDS


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.neo_daemons("api", isolated=True))])
def test_not_for_parameters(api, number):
    pass
