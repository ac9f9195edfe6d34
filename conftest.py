"""For the whole repository: whatever ran, nothing of it is left."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pytest

from tests.harness import end_marked, marked

WORKERS_PER_CPU = 1.5
"""The tests start processes and wait for them: with one worker for each CPU, the CPUs are idle a third of the time."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many workers ``-n auto`` starts."""
    return math.ceil(WORKERS_PER_CPU * (os.cpu_count() or 1))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session ends with no process of any test."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    left = [(pid, mark.name) for pid, mark in marked() if mark.state_dir.startswith(base)]
    end_marked(base)
    assert not left, f"processes left by the tests: {left}"
