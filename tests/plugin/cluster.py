"""A cluster for inner runs: a kubectl of our own on their PATH, which forwards to daemons on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any

from tests.harness import is_alive

from .inner import PROGRAMS, Inner, lines

DEFAULT = "default"
"""The namespace of the current context."""


class Cluster:
    """The cluster."""

    def __init__(self, inner: Inner) -> None:
        self.directory = inner.root / "cluster"
        self.directory.mkdir()
        self._programs = inner.root / "bin"
        self._programs.mkdir()
        inner.env |= {
            "FAKE_CLUSTER": str(self.directory),
            "PATH": f"{self._programs}{os.pathsep}{inner.env['PATH']}",
        }
        inner.env.pop("KUBERNETES_SERVICE_HOST", None)
        self.install("kubectl", (PROGRAMS / "kubectl.py").read_text())
        self.has({})

    def install(self, name: str, text: str) -> None:
        """Put a Python program on the PATH of inner runs."""
        path = self._programs / name
        path.write_text(f"#!{sys.executable} -IS\n{text}")
        path.chmod(0o755)

    def has(self, services: dict[str, dict[str, int]], namespace: str = DEFAULT, **settings: Any) -> None:
        """State its services: name → port → port on this machine; and how kubectl behaves."""
        content = {"services": {namespace: services}, **settings}
        path = self.directory / "cluster.json"
        path.with_suffix(".new").write_text(json.dumps(content))
        path.with_suffix(".new").replace(path)

    def starts(self) -> list[int]:
        """The pids that kubectl has had."""
        return [int(line.split()[0]) for line in lines(self.directory / "starts")]

    def started_at(self) -> list[float]:
        """When it was started, in seconds since the epoch."""
        return [float(line.split()[1]) for line in lines(self.directory / "starts")]

    def tunnels(self) -> list[int]:
        """The processes of kubectl that are running."""
        return [pid for pid in self.starts() if is_alive(pid)]

    def kill(self) -> None:
        """Kill what is running."""
        self._signal(signal.SIGKILL)

    def lose(self) -> None:
        """Let what is running lose its connection and exit."""
        self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.tunnels():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def hang(self) -> None:
        """Let what is running accept connections and forward nothing more."""
        for pid in self.tunnels():
            (self.directory / f"hang-{pid}").touch()
