"""Does everything that an observer must not do, and checks that `tests.watched` tells it. The argument is a directory
to write in."""

# mypy: ignore-errors

import os
import signal
import subprocess
import sys
import threading

from tests import watched

HERE = sys.argv[1]
MISDEEDS = (
    lambda: open(f"{HERE}/file", "w").close(),
    lambda: os.close(os.open(f"{HERE}/other", os.O_RDWR | os.O_CREAT)),
    lambda: os.kill(os.getpid(), 0),
    lambda: signal.pthread_kill(threading.get_ident(), 0),
    lambda: subprocess.run(["true"]),
    lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    lambda: os.fork() or os._exit(0),
    lambda: os.system("true"),
    lambda: os.rename(f"{HERE}/file", f"{HERE}/third"),
)

watched.watch()
for misdeed in MISDEEDS:
    watched.events.clear()
    misdeed()
    assert watched.events, misdeed.__code__.co_firstlineno
watched.events.clear()
open(watched.__file__).close()
assert not watched.events
