"""Fixtures of all tests, and the check that nothing is left when they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Project, end_marked, marked


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of its own. The test fails if its supervisors, ended by SIGTERM, leave a process."""
    project = Project(tmp_path)
    yield project
    left = project.close()
    assert not left, f"left running: {left}"


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The session ends with no process of any test."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    left = [(pid, mark.name) for pid, mark in marked() if mark.state_dir.startswith(base)]
    end_marked(base)
    assert not left, f"processes left by the tests: {left}"
