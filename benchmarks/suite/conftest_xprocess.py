"""With pytest-xprocess. Its processes are of the whole project by name, so each worker has names of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon  # type: ignore[import-not-found]
from xprocess import ProcessStarter


def _run(name: str, xprocess: Any, factory: pytest.TempPathFactory) -> Iterator[str]:
    daemon = Daemon(name, factory.mktemp(name))
    own = f"{name}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    daemon.log = Path(str(xprocess.rootdir), own, "xprocess.log")

    class Starter(ProcessStarter):  # type: ignore[misc]
        args = daemon.command
        env = daemon.env
        terminate_on_interrupt = True

        def startup_check(self) -> bool:
            ready: bool = daemon.is_ready()
            return ready

    xprocess.ensure(own, Starter, persist_logs=False)
    yield daemon.address
    xprocess.getinfo(own).terminate()


@pytest.fixture(scope="session")
def chroma_url(xprocess: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("chroma", xprocess, tmp_path_factory)


@pytest.fixture(scope="session")
def mlx_url(xprocess: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("mlx", xprocess, tmp_path_factory)


@pytest.fixture(scope="session")
def graph(xprocess: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("bridge", xprocess, tmp_path_factory)
