"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of its own. The test fails if its supervisors, ended by SIGTERM, leave a process."""
    project = Project(tmp_path)
    yield project
    left = project.close()
    assert not left, f"left running: {left}"
