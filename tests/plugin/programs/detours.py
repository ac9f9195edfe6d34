"""Kills daemons that it reaches through other fixtures."""

# mypy: ignore-errors

import os
import signal
import time

import pytest


@pytest.fixture(scope="session")
def client(request):
    return request.getfixturevalue("api")


def killed(daemon):
    pid = daemon.pid
    os.kill(pid, signal.SIGKILL)
    while daemon.pid in (pid, None):
        time.sleep(0.01)
    raise AssertionError


def test_reached(client):
    killed(client)


def test_reached_again(client):
    killed(client)


def test_required(api, request):
    db = request.getfixturevalue("db")
    db._used = lambda name: None  # it is what api needs that counts here
    killed(db)


def test_other(other):
    raise AssertionError
