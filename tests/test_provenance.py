"""Where the records in a state directory were written, and how they came to be where they are."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, Directory
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.provenance import Provenance, Way, provenance


@pytest.fixture
def written(tmp_path: Path) -> StateDir:
    """A state directory with a daemon's record in it."""
    state_dir = StateDir(tmp_path / "written")
    state_dir.create()
    record = DaemonRecord(
        directory=Directory.of(state_dir.path),
        name="api",
        token="token",
        fingerprint="",
        command=("true",),
        ports={},
        url=None,
        data_dir=None,
        log_path=str(state_dir.daemon_log("api")),
        spawned_at=time.time(),
        log_offset=0,
    )
    write_struct(state_dir.daemon_record("api"), record)
    return state_dir


def directory(state_dir: StateDir) -> Directory:
    found = Directory.of(state_dir.path)
    assert found is not None
    return found


def test_records_that_were_written_here_have_no_provenance(written: StateDir) -> None:
    assert provenance(written) is None


def test_a_directory_without_readable_records_has_no_provenance(tmp_path: Path, written: StateDir) -> None:
    assert provenance(StateDir(tmp_path / "none")) is None
    written.daemon_record("api").write_text("{")
    written.record.write_text("{")
    assert provenance(written) is None


def test_a_copy_comes_from_the_directory_that_was_copied(tmp_path: Path, written: StateDir) -> None:
    copy = StateDir(tmp_path / "copy")
    shutil.copytree(written.path, copy.path)
    assert provenance(copy) == Provenance(Way.COPIED, directory(written))


def test_a_directory_that_was_moved_comes_from_where_it_was(tmp_path: Path, written: StateDir) -> None:
    before = directory(written)
    moved = StateDir(written.path.rename(tmp_path / "moved"))
    assert provenance(moved) == Provenance(Way.MOVED, before)


def test_a_backup_that_was_put_back_replaces_an_earlier_directory(tmp_path: Path, written: StateDir) -> None:
    before = directory(written)
    backup = tmp_path / "backup"
    shutil.copytree(written.path, backup)
    written.path.rename(tmp_path / "aside")  # its inode number stays in use
    backup.rename(written.path)
    assert provenance(written) == Provenance(Way.REPLACED, before)
