"""A project to read a configuration in."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a file, a directory and a link to it; the working directory, and a home, are elsewhere."""
    root = tmp_path / "project"
    for directory in (root / "real", tmp_path / "home", tmp_path / "elsewhere"):
        directory.mkdir(parents=True)
    (root / "a-file").touch()
    (root / "link").symlink_to("real")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return root
