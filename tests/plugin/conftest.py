"""Fixtures of the plugin's tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S

from .inner import Inner, without


@pytest.fixture(scope="session", autouse=True)
def _bytecode_of_the_plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have pytest rewrite the plugin's assertions once, and not in each inner run: those may not write bytecode."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *without(), "--neo-daemons", "--collect-only"]
    place = tmp_path_factory.mktemp("bytecode")
    with contextlib.suppress(subprocess.TimeoutExpired):  # without it, they are only slower
        subprocess.run(command, cwd=place, env=env, capture_output=True, timeout=PATIENCE_S, check=False)


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Inner]:
    """A downstream repository. Whatever was run in it, in the end nothing is left."""
    inner = Inner(tmp_path)
    yield inner
    inner.close()
    inner.wait_until_nothing_is_left()
