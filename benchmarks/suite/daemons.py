"""What the peers' conftest files share: a daemon of one's own, and whether it is ready. Copied beside them."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
POLL_S = 0.01
PATIENCE_S = 120.0
NAMES = ("chroma", "mlx", "bridge")


class Daemon:
    """How to start one with a port and data of its own.

    Args:
        name: chroma, mlx or bridge.
        directory: for its files.
    """

    def __init__(self, name: str, directory: Path) -> None:
        stated = json.loads((HERE / "commands.json").read_text())[name]
        data = directory / name
        data.parent.mkdir(parents=True, exist_ok=True)
        if name == "bridge":
            shutil.copytree(HERE / "graph", data)
        else:
            data.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def own(text: str) -> str:
            return text.replace("@DATA@", str(data)).replace("@PORT@", str(port))

        self.name = name
        self.command = [own(word) for word in stated["command"]]
        self.env = {key: own(value) for key, value in stated["env"].items()}
        self.log = directory / f"{name}.log"
        self.url = f"http://127.0.0.1:{port}"
        self.graph = self.env["NEO_MEMORY_DB_PATH"] if name == "bridge" else ""
        self.address = self.graph or self.url

    def start(self) -> subprocess.Popen[bytes]:
        """Bare, its output in `log`."""
        with self.log.open("wb") as output:
            return subprocess.Popen(self.command, env=self.env, stdout=output, stderr=output, start_new_session=True)

    def is_ready(self) -> bool:
        """As it is asked by ours, too."""
        with contextlib.suppress(OSError, ValueError):
            match self.name:
                case "chroma":
                    return "nanosecond heartbeat" in ask(f"{self.url}/api/v2/heartbeat")
                case "mlx":
                    return bool(ask(f"{self.url}/v1/chat/completions", COMPLETION)["choices"])
                case _:
                    return "Started. Tail-syncing" in self.log.read_text()
        return False

    def wait(self) -> None:
        """Until it is ready.

        Raises:
            TimeoutError: it does not become ready.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not ready")
            time.sleep(POLL_S)


COMPLETION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Daemons are local: no proxy from the environment."""


def ask(url: str, body: object = None) -> Any:
    """What a daemon answers to a GET, or to a POST with a body."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with DIRECT.open(request, timeout=60) as answer:
        return json.load(answer)


def remember(graph: str, key: str) -> int:
    """Write to the bridge's graph; the position in its log."""
    with contextlib.closing(sqlite3.connect(graph, timeout=60)) as database, database:
        database.execute("INSERT INTO Nodes(id, user_id, data) VALUES (?, 'suite', '{}')", (key,))
        (position,) = database.execute("SELECT log_id FROM GraphLog WHERE entity_id = ?", (key,)).fetchone()
    return int(position)
