"""Kills daemons in tests that pass."""

# mypy: ignore-errors

import os
import signal
import time


def test_killed(api):
    pid = api.pid
    os.kill(pid, signal.SIGKILL)
    while api.pid in (pid, None):
        time.sleep(0.01)


def test_next(api):
    assert api.state == "ready"


def test_asked_for(other):
    other.kill()
    other.wait_ready()


def test_uses_none():
    pass
