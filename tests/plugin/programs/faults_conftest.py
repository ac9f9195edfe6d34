"""Has the fault that `FAULT` names strike a run, once a test asks for it."""

# mypy: ignore-errors

import json
import os
import pathlib
import signal
import time
import urllib.request

import pytest

HERE = pathlib.Path(__file__).parent
FAULT = os.environ["FAULT"]


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.status


@pytest.fixture
def broken():
    if FAULT == "setup error":
        raise RuntimeError("broken")


@pytest.fixture
def strike(request, api, neo_daemons):
    def strike():
        if FAULT in ("failing test", "-x"):
            raise AssertionError("failing")
        if FAULT == "pytest.exit":
            pytest.exit("enough")
        if FAULT in ("Ctrl-C", "SIGTERM", "SIGKILL of the controller"):
            (HERE / "here").touch()
            time.sleep(300)
        if FAULT == "SIGKILL of a worker":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "SIGKILL of the supervisor":
            record = neo_daemons.state_dir / "supervisor.json"
            os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        if FAULT == "SIGKILL of a daemon":
            os.kill(api.pid, signal.SIGKILL)
            get(api.url)
        if FAULT == "SIGSTOP of a daemon":
            os.kill(api.pid, signal.SIGSTOP)
            get(api.url)

    return strike
