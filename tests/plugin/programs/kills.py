"""Kills its daemon, and waits for it or does not."""

# mypy: ignore-errors

import pytest
from helpers import get


@pytest.mark.parametrize("number", range(3))
def test_waits(api, number):
    pid = api.pid
    api.kill()
    api.wait_ready()
    assert api.pid not in (None, pid)
    assert get(api.url) == 200


def test_leaves_it_dead(api):
    api.kill()


def test_after_dead(api):
    assert get(api.url) == 200
