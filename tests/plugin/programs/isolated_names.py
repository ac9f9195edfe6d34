"""Isolates a daemon beside others with similar names."""

# mypy: ignore-errors

import pytest

SEEN = set()


def test_first(api_main_1, api_main_2):
    SEEN.update({api_main_1.pid, api_main_2.pid})


@pytest.mark.neo_daemons("api", isolated=True)
@pytest.mark.parametrize("number", [1, 2])
def test_isolated(api, number):
    assert api.name not in SEEN
    assert api.pid not in SEEN
    SEEN.update({api.pid, api.name})


def test_last(api_main_1, api_main_2):
    assert {api_main_1.pid, api_main_2.pid} <= SEEN
