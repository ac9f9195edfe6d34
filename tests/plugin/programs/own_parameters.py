"""Parametrizes fixtures of daemons in its own way."""

# mypy: ignore-errors

import pytest


@pytest.fixture(params=["a", "b"], scope="session")
def other(request, other):
    return request.param, other


@pytest.mark.parametrize("api", ["x"], indirect=True)
def test_indirect(api):
    assert api.name == "api"


def test_overridden(other):
    assert other[0] in "ab"
    assert other[1].name == "other"


@pytest.mark.neo_daemons("other")
def test_marked(neo_daemons):
    assert neo_daemons["other"].name == "other"
