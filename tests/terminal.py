"""A terminal in which a command runs: a pty, and pyte, which draws what the command writes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

from .harness import PATIENCE_S

LEAD = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes the terminal the controlling one, so that it reports its size by SIGWINCH."""
ALTERNATE = b"\x1b[?1049h", b"\x1b[?1049l"
COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|38|48)[;m]")


class Terminal:
    """Runs a command of this interpreter in a terminal of its own, until `close`."""

    def __init__(
        self, arguments: list[str], cwd: Path, env: Mapping[str, str], *, width: int = 80, height: int = 24
    ) -> None:
        self.written = b""
        """All that the command has written."""
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        self.settings = termios.tcgetattr(theirs)
        self._theirs = os.dup(theirs)  # so that the settings can be read when the command has ended
        self._set_size(width, height)
        self.process = subprocess.Popen(
            [sys.executable, "-IS", "-c", LEAD, sys.executable, *arguments],
            cwd=cwd,
            env={**{k: v for k, v in env.items() if k not in ("COLUMNS", "LINES")}, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(self.screen.display)

    def resize(self, width: int, height: int) -> None:
        self.screen.resize(height, width)
        self._set_size(width, height)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def until(self, look: Callable[[], bool], what: str) -> None:
        """Read what the command writes until `look` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not look():
            assert time.monotonic() < deadline, f"never came: {what}; the screen shows\n{self.text}"
            self._read(0.05)

    def shows(self, *texts: str) -> None:
        self.until(lambda: all(text in self.text for text in texts), " and ".join(texts))

    def ends(self) -> int:
        """Wait for the end of the command, and return its exit code."""
        self.until(lambda: self.process.poll() is not None, "the end")
        while self._read(0):
            pass
        return self.process.wait()

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._ours], [], [], timeout_s)[0]:
            return False
        data = os.read(self._ours, 65536)
        self.written += data
        self._stream.feed(data)
        return bool(data)

    def is_restored(self) -> bool:
        """Whether the terminal is as the command found it: settings, screen and cursor."""
        entered, left = ALTERNATE
        there = self.written.rfind(left) > self.written.rfind(entered) >= 0
        cursor = self.written.rfind(b"\x1b[?25h") > self.written.rfind(b"\x1b[?25l")
        return there and cursor and termios.tcgetattr(self._theirs) == self.settings

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
