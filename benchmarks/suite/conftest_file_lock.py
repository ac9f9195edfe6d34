"""The recipe of pytest-xdist's documentation: the first worker starts, the others read where; the last one ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator

import pytest
from daemons import Daemon  # type: ignore[import-not-found]
from filelock import FileLock


def _run(name: str, factory: pytest.TempPathFactory) -> Iterator[str]:
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    path = root / f"{name}.json"
    with FileLock(f"{path}.lock"):
        if path.is_file():
            shared = json.loads(path.read_text())
        else:
            daemon = Daemon(name, root / name)
            process = daemon.start()
            daemon.wait()
            shared = {"address": daemon.address, "pid": process.pid, "users": 0}
        shared["users"] += 1
        path.write_text(json.dumps(shared))
    yield shared["address"]
    with FileLock(f"{path}.lock"):
        shared = json.loads(path.read_text())
        shared["users"] -= 1
        path.write_text(json.dumps(shared))
        if shared["users"] == 0:
            os.kill(shared["pid"], signal.SIGTERM)
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                while os.waitpid(shared["pid"], os.WNOHANG) == (0, 0):
                    time.sleep(0.01)
            path.unlink()


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("chroma", tmp_path_factory)


@pytest.fixture(scope="session")
def mlx_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("mlx", tmp_path_factory)


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _run("bridge", tmp_path_factory)
