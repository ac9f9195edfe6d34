"""Names daemons in tests that are not run."""

# mypy: ignore-errors

import pytest


@pytest.fixture
def mine():
    return "mine"


@pytest.mark.skip(reason="known to be broken")
def test_skip(skipped):
    raise AssertionError


@pytest.mark.skipif(True, reason="not here")
@pytest.mark.neo_daemons("conditional")
def test_skipif():
    raise AssertionError


@pytest.mark.xfail(run=False)
def test_xfail(unrun):
    raise AssertionError


@pytest.mark.parametrize("value", [1])
def test_value(value):
    assert value == 1


def test_mine(mine):
    assert mine == "mine"


def test_asked(neo_daemons, api):
    assert "asked" in neo_daemons
    assert "nobody" not in neo_daemons
