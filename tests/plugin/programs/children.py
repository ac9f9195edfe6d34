"""A child that stands behind no wall of the fence, and is connected until the thread of the fence has seen it."""

import subprocess
import sys
import time
from typing import Any

from pytest_neo_daemons.fence import FENCE

CHILD = """if 1:
    import signal, socket, sys
    link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    signal.alarm(60)  # should nobody end it
    signal.pause()
    """


def connect(port: int) -> "subprocess.Popen[bytes]":
    """Start the child."""
    return subprocess.Popen([sys.executable, "-c", CHILD, str(port)], env={}, cwd="/")


def wait_until_seen(child: "subprocess.Popen[bytes]", request: Any) -> None:
    """Wait for the thread, then end the child."""
    fence = request.config.stash[FENCE]
    while not fence._new:
        time.sleep(0.001)
    child.kill()
    child.wait()
