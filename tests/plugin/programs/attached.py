"""Uses a daemon of an attached supervisor, and asks for what is refused there."""

# mypy: ignore-errors

import os

import pytest

from pytest_neo_daemons import FaultRefused


@pytest.mark.parametrize("number", range(2))
def test_same(api, neo_daemons, number):
    assert api.pid == int(os.environ["PID"])
    assert neo_daemons["api"].state == "ready"


@pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
def test_refused(api, fault):
    with pytest.raises(FaultRefused, match=f"cannot {fault} api: it belongs to an attached supervisor"):
        getattr(api, fault)()


@pytest.mark.neo_daemons("api", isolated=True)
def test_isolated(api):
    pass


def test_changed(changed):
    pass


def test_down(down):
    pass
