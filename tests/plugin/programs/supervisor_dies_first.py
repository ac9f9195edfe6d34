"""Kills its supervisor, and asks a handle at once."""

# mypy: ignore-errors

import json
import os
import signal

import pytest


@pytest.fixture
def killed(api, neo_daemons):
    api.wait_ready()
    pid = json.loads((neo_daemons.state_dir / "supervisor.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)


def test_pid(api, killed):
    os.kill(api.pid, 0)


def test_logs(api, killed):
    assert "hello" in api.logs()


def test_kill(api, killed):
    api.kill()
