"""A process that is nobody's daemon, in a session of its own, and the count of the signals that ever reached it.

Its pid is put into forged records. What can be caught it counts itself, in a file; what cannot (SIGKILL, SIGSTOP) its
parent is told by the kernel.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from neo_daemons import procfs
from neo_daemons.records import Identity
from neo_daemons.supervision.platform import current_platform
from tests.harness import until

SCRIPT = """
import os, signal, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, lambda number, frame: os.write(log, b"%d\\n" % number))
os.write(log, b"armed\\n")
while True:
    signal.pause()
"""


class Bystander:
    """One such process."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-IS", "-c", SCRIPT, str(log)], stdin=subprocess.DEVNULL, start_new_session=True
        )
        until(lambda: log.is_file() and "armed" in log.read_text(), "the bystander")

    @property
    def pid(self) -> int:
        return self._process.pid

    def identity(self) -> Identity:
        """Its true one, as a record would hold it."""
        seen = procfs.identify(self.pid)
        assert seen is not None, "the bystander is gone"
        inode = None
        if current_platform().own_identity().inode is not None:
            descriptor = os.pidfd_open(self.pid)
            inode = os.fstat(descriptor).st_ino
            os.close(descriptor)
        return Identity(boot_id=seen.boot_id, start_time=seen.start_time, inode=inode)

    def signals(self) -> list[str]:
        """What reached it, oldest first."""
        found = [signal.Signals(int(line)).name for line in self._log.read_text().splitlines() if line.isdigit()]
        state = procfs.stat(self.pid)
        if state is None or state[0] in procfs.GONE:
            code = self._process.poll()
            found.append(f"ended with {code}")
        elif state[0] in procfs.STOPPED:
            found.append("SIGSTOP")
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
