"""Takes the port of its daemon, and looks for the next one in the environment."""

# mypy: ignore-errors

import os
import socket

import pytest


@pytest.fixture(scope="module")
def taken():
    with socket.socket() as taken:
        yield taken


def test_moves(api, taken):
    old = api.port
    api.stop()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", old))
    taken.listen()
    api.start()
    assert old != api.port
    assert os.environ["API_PORT"] == str(api.port)


def test_next(api, taken):
    assert os.environ["API_PORT"] == str(api.port)
