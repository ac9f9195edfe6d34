"""Asks a handle everything, and does to its daemon all that it offers."""

# mypy: ignore-errors

import pathlib

import pytest
from helpers import get

from pytest_neo_daemons import Daemon


def kernel_state(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_tells(api, neo_daemons):
    assert isinstance(api, Daemon)
    assert (api.name, api.host, api.state, api.external) == ("api", "127.0.0.1", "ready", False)
    assert api.url == f"http://127.0.0.1:{api.port}"
    assert api.ports == {"main": api.port}
    assert get(api.url) == 200
    assert b"toy.py" in pathlib.Path(f"/proc/{api.pid}/cmdline").read_bytes()
    assert api.data_dir.is_dir()
    assert api.data_dir.is_relative_to(neo_daemons.state_dir)
    assert api.log_path.is_relative_to(neo_daemons.state_dir)
    assert api.env == {"API_URL": api.url, "API_DATA": str(api.data_dir)}
    assert "hello there" in api.logs()
    assert "hello there" in api.log_path.read_text()
    api.wait_ready()


def test_restart(api):
    pid = api.pid
    api.restart()
    assert api.state == "ready"
    assert api.pid not in (None, pid)
    assert get(api.url) == 200


def test_kill(api):
    pid, port, restarts = api.pid, api.port, api.restarts
    api.kill()
    api.wait_ready()
    assert api.pid not in (None, pid)
    assert api.port == port
    assert api.restarts == restarts + 1
    assert get(api.url) == 200


def test_pause(api):
    pid = api.pid
    api.pause()
    assert kernel_state(pid) == "T"
    api.resume()
    assert get(api.url) == 200
    assert api.pid == pid


def test_stop(api):
    api.stop()
    assert (api.state, api.pid) == ("stopped", None)
    with pytest.raises(OSError, match="refused"):
        get(api.url)
    api.start()
    assert api.state == "ready"
    assert get(api.url) == 200


def test_leaves_it_stopped(api):
    api.stop()


def test_after_stopped(api):
    assert api.state == "ready"
    assert get(api.url) == 200


def test_leaves_it_paused(api):
    api.pause()


def test_after_paused(api):
    assert get(api.url) == 200


def test_leaves_it_stopped_and_fails(api):
    api.stop()
    raise AssertionError


def test_after_the_failure(api):
    assert get(api.url) == 200
