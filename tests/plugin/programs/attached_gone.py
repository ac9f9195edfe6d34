"""Ends the serve that it is attached to, and asks again."""

# mypy: ignore-errors

import os
import signal
import time

import pytest

from pytest_neo_daemons import Unavailable


def ask_for_ever(daemon):
    while True:
        print(daemon.pid)
        time.sleep(0.01)


def test_gone(api):
    os.kill(int(os.environ["SERVE"]), signal.SIGTERM)
    with pytest.raises(Unavailable, match="supervisor"):
        ask_for_ever(api)


def test_after(api):
    with pytest.raises(Unavailable, match="supervisor"):
        print(api.pid)
