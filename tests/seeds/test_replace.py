"""A restore exchanges two directories; a kill at any step loses neither."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neo_daemons.seeds import replacing
from neo_daemons.seeds.manifest import RESTORED, SeedError
from tests.harness import PATIENCE_S, PROGRAMS


@pytest.mark.parametrize("way", ["exchange", "fallback"])
def test_killed_at_any_step_of_a_restore_both_directories_are_whole(tmp_path: Path, way: str) -> None:
    command = [sys.executable, str(PROGRAMS / "replace_kills.py"), str(tmp_path), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = ast.literal_eval(done.stdout)
    assert found["old"] >= 1
    assert found["new"] >= 1
    # Where the system cannot exchange directories, there is a moment without one; what comes next ends it.
    assert found["missing"] == (0 if way == "exchange" else 1)


def test_a_replacement_that_fails_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, new = tmp_path / "data", tmp_path / "new"
    for directory in (data, new):
        directory.mkdir()
        (directory / "file").write_text(directory.name)
    original = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == data:
            raise OSError(errno.EBUSY, "Device or resource busy", str(path), None, str(target))
        return original(path, target)

    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="busy"):
        replacing.replace(data, new)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (data / "file").read_text() == "data"


def test_a_directory_that_was_created_in_the_moment_without_one_is_for_the_user_to_judge(tmp_path: Path) -> None:
    data, moment = tmp_path / "data", "20260301T101500Z-0123"
    ready, before = tmp_path / f".data.restored-{moment}", tmp_path / f"data.before-{moment}"
    for directory in (data, ready, before):
        directory.mkdir()
    (ready / RESTORED).touch()
    with pytest.raises(SeedError, match=r"a restore of .* was killed, and the directory was created again"):
        replacing.finish(data)
    assert ready.is_dir()
    assert before.is_dir()
    data.rmdir()
    replacing.finish(data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", before.name]
    assert not any(data.iterdir())


def test_other_names_beside_the_data_are_left_alone(tmp_path: Path) -> None:
    names = [".data.restored-mine", ".data[1].restored-20260301T101500Z-0123", "data", "data[1]"]
    for name in names:
        (tmp_path / name).mkdir()
    replacing.finish(tmp_path / "data")
    replacing.sweep(tmp_path, "data")
    assert sorted(os.listdir(tmp_path)) == names
