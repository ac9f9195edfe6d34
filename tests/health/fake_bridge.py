"""What a bridge is to those who look at it: its files, its database, and a process that is called like it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from neo_daemons import processes
from neo_daemons.health import BridgeObserver
from tests.harness import until

GRAPH = """
import sqlite3, sys
graph = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    graph.execute(line)
    print("done", flush=True)
graph.close()
"""


class Bridge:
    """The files of a bridge, and a process in its place."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "wake"
        self.directory.mkdir()
        self.database = root / "graph.sqlite"
        # In a process of its own, as SQLite shares within one what is to be seen from outside.
        self.graph = subprocess.Popen([sys.executable, "-c", GRAPH, str(self.database)], stdin=-1, stdout=-1, text=True)
        self.log("PRAGMA journal_mode=WAL")
        self.log("CREATE TABLE GraphLog (log_id INTEGER PRIMARY KEY)")
        script = root / "ai/daemons/wake/daemon.mjs"
        script.parent.mkdir(parents=True)
        script.write_text("import signal; signal.pause()")
        self.process = subprocess.Popen([sys.executable, "-IS", str(script)])
        self.say("wake-daemon.pid", self.process.pid)
        self.observer = BridgeObserver(self.directory, self.database)
        # Until its exec it is called like us.
        until(lambda: processes.command(self.process.pid)[-1:] == (str(script),), "the process to be in place")

    def say(self, name: str, content: Any) -> None:
        (self.directory / name).write_text(str(content))

    def log(self, what: int | str) -> None:
        assert self.graph.stdin is not None
        assert self.graph.stdout is not None
        print(f"INSERT INTO GraphLog VALUES ({what})" if isinstance(what, int) else what, file=self.graph.stdin)
        self.graph.stdin.flush()
        assert self.graph.stdout.readline() == "done\n"

    def close_graph(self) -> None:
        self.graph.communicate()

    def files(self) -> dict[str, tuple[int, str]]:
        return {
            path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in self.database.parent.glob("graph.sqlite*")
        }

    def close(self) -> None:
        self.close_graph()
        self.process.kill()
        self.process.wait()
