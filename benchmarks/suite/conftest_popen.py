"""The floor: each worker starts its own, and polls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from daemons import Daemon  # type: ignore[import-not-found]


def _run(name: str, factory: pytest.TempPathFactory) -> Iterator[str]:
    daemon = Daemon(name, factory.mktemp(name))
    process = daemon.start()
    try:
        daemon.wait()
        yield daemon.address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("chroma", tmp_path_factory)


@pytest.fixture(scope="session")
def mlx_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("mlx", tmp_path_factory)


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("bridge", tmp_path_factory)
