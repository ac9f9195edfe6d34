"""Create the queue."""

import os
import sqlite3

with sqlite3.connect(os.environ["QUEUE"]) as queue:
    queue.execute("CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, done INTEGER NOT NULL DEFAULT 0)")
