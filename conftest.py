"""For the whole repository: whatever ran, nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import end_marked, marked


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session ends with no process of any test."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    left = [(pid, mark.name) for pid, mark in marked() if mark.state_dir.startswith(base)]
    end_marked(base)
    assert not left, f"processes left by the tests: {left}"
