"""Has a chain of processes that forks faster than anybody can look, and ignores SIGTERM."""

import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    print("ready", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        signal.pause()
end = time.monotonic() + 60  # should nobody end it
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    time.sleep(0.002)
