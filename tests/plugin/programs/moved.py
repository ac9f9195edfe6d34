"""Moves its daemon, and uses it without waiting until it is back."""

# mypy: ignore-errors

import os

import pytest
from moves import answers, move, wait_until_back

SEEN = {}


@pytest.fixture
def uses_it_afterwards(api):
    yield
    assert answers(api.url)


def test_moves(api, neo_daemons, uses_it_afterwards):
    SEEN.update(port=api.port, state_dir=neo_daemons.state_dir)
    move(api.pid, api.port, neo_daemons.state_dir)


def test_declared(api):
    assert api.port != SEEN["port"]
    assert answers(api.url)
    assert answers(os.environ["API_URL"])
    SEEN.update(pid=api.pid, port=api.port)


def test_that_uses_no_daemon_is_not_asked():
    move(SEEN["pid"], SEEN["port"], SEEN["state_dir"])
    wait_until_back(SEEN["pid"], SEEN["state_dir"])


def test_not_declared(neo_daemons):
    api = neo_daemons["api"]
    assert api.port != SEEN["port"]
    assert answers(api.url)
