"""With mirakuru: executors that poll HTTP, or a function of ours where the daemon has no port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from daemons import Daemon  # type: ignore[import-not-found]
from mirakuru import HTTPExecutor, SimpleExecutor

POLL_S = 0.01


def _run(daemon: Daemon, executor: Any) -> Iterator[str]:
    with executor:
        daemon.wait()
        yield daemon.address


def _http(name: str, path: str, factory: pytest.TempPathFactory) -> Iterator[str]:
    daemon = Daemon(name, factory.mktemp(name))
    with daemon.log.open("wb") as output:
        yield from _run(
            daemon,
            HTTPExecutor(
                daemon.command, f"{daemon.url}{path}", method="GET", envvars=daemon.env, timeout=120, sleep=POLL_S,
                stdout=output, stderr=output,
            ),
        )  # fmt: skip


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _http("chroma", "/api/v2/heartbeat", tmp_path_factory)


@pytest.fixture(scope="session")
def mlx_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _http("mlx", "/health", tmp_path_factory)


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    daemon = Daemon("bridge", tmp_path_factory.mktemp("bridge"))
    with daemon.log.open("wb") as output:
        executor = SimpleExecutor(daemon.command, envvars=daemon.env, stdout=output, stderr=output, sleep=POLL_S)
        yield from _run(daemon, executor)
