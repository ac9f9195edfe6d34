"""Fixtures of the plugin's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .inner import Inner


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Inner]:
    """A downstream repository. Whatever was run in it, in the end nothing is left."""
    inner = Inner(tmp_path)
    yield inner
    inner.close()
    inner.wait_until_nothing_is_left()
