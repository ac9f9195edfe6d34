"""Kills its supervisor again and again, and uses the daemon."""

# mypy: ignore-errors

import json
import os
import signal

import pytest
from helpers import get

PIDS = set()


@pytest.mark.parametrize("number", range(2))
def test_killed(api, neo_daemons, number):
    api.wait_ready()
    pid = json.loads((neo_daemons.state_dir / "supervisor.json").read_text())["pid"]
    PIDS.add(api.pid)
    os.kill(pid, signal.SIGKILL)
    assert get(api.url) == 200


def test_after(api):
    api.wait_ready()
    PIDS.add(api.pid)
    assert len(PIDS) == 1
    assert get(api.url) == 200
