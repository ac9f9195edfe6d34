"""Moves a daemon to another port."""

# mypy: ignore-errors

import json
import os
import signal
import socket
import time
import urllib.request

from neo_daemons.control.client import Client
from neo_daemons.state_dir import StateDir

HELD = []


def answers(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.status == 200


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def take(port):
    try:
        HELD.append(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return False
    return True


def move(pid, port, state_dir):
    """Kill it and take its port while the supervisor sleeps. Do not wait for it to be back, only for the supervisor to
    know that it is gone: no handle knows that earlier."""
    supervisor = json.loads((state_dir / "supervisor.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    until(lambda: take(port))
    os.kill(supervisor, signal.SIGCONT)
    client = Client(StateDir(state_dir))
    until(lambda: client.status().daemon("api").pid != pid)


def wait_until_back(pid, state_dir):
    """Wait until it is ready again, as another process."""
    client = Client(StateDir(state_dir))

    def is_back():
        now = client.status().daemon("api")
        return now.ready and now.pid != pid

    until(is_back)
