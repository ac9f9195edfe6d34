"""What a terminal shows while daemons start."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from tests.harness import PATIENCE_S

from .inner import Inner

pytestmark = pytest.mark.long


def test_a_terminal_shows_what_a_slow_daemon_does(inner: Inner) -> None:
    go = inner.root / "go"
    program = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\nprint('up', flush=True)\n"
    inner.configure(
        slow={
            "command": [sys.executable, "-IS", "-c", f"{program}time.sleep(600)", str(go)],
            "ready": {"type": "log", "pattern": "up"},
        }
    )
    inner.write("test_slow.py", "def test_slow(slow): pass\n")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--neo-daemons"],
        cwd=inner.root,
        env=inner.env,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    try:
        while select.select([controller], [], [], PATIENCE_S)[0]:
            try:
                shown += os.read(controller, 65536)
            except OSError:  # nobody has the terminal any more
                break
            if b"neo-daemons: slow is " in shown:
                go.touch()
        assert process.wait(PATIENCE_S) == 0, shown.decode()
    finally:
        os.close(controller)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert b"neo-daemons: slow is " in shown
