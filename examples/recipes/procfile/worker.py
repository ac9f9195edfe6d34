"""Does the jobs."""

import os
import sqlite3
import time

print("waiting for jobs")  # noqa: T201 - its log
while True:
    with sqlite3.connect(os.environ["QUEUE"]) as queue:
        queue.execute("UPDATE jobs SET done = 1 WHERE NOT done")
    time.sleep(0.05)
