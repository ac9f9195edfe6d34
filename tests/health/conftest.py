"""Fixtures of the tests of health observers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx  # noqa: F401 - the first look of a process loads it, and beside a load has no time left then
import pytest

from tests.harness import Project, toy

from .answers import Handler, Server
from .fake_bridge import Bridge


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], Server]]:
    servers: list[Server] = []

    def make(answer: Handler) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def hung() -> Iterator[str]:
    """The URL of a server that lets everybody connect and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def supervised(project: Project) -> Project:
    project.configure(api=toy(live={"type": "http", "interval_s": 60.0}))
    project.serve()
    project.reaches("api", "ready")
    return project


@pytest.fixture
def wake(tmp_path: Path) -> Iterator[Bridge]:
    bridge = Bridge(tmp_path)
    yield bridge
    bridge.close()
