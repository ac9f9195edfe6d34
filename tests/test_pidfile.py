"""The record of a daemon, as its supervisor keeps it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, read
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.ownership import Ownership
from neo_daemons.supervision.pidfile import PidFile
from neo_daemons.supervision.platform import current_platform

RECORD = DaemonRecord(
    name="api",
    token="0" * 32,
    fingerprint="f",
    command=("x",),
    ports={},
    url=None,
    data_dir=None,
    log_path="",
    spawned_at=0,
    log_offset=0,
)


@pytest.fixture
def state_dir(tmp_path: Path) -> StateDir:
    state_dir = StateDir(tmp_path / "state")
    state_dir.create()
    return state_dir


@pytest.fixture
def pidfile(state_dir: StateDir) -> PidFile:
    return PidFile(state_dir.daemon_record("api"), Ownership(current_platform(), state_dir))


def test_a_record_is_removed_and_written_anew(pidfile: PidFile) -> None:
    for _ in range(2):
        pidfile.intend(RECORD)
        pidfile.establish(os.getpid(), current_platform().own_identity())
        found = read(pidfile.path, DaemonRecord)
        assert found is not None
        assert found.pid == os.getpid()
        pidfile.clear()
        assert list(pidfile.path.parent.iterdir()) == []


@pytest.mark.parametrize(("token", "stays"), [("1" * 32, True), (RECORD.token, False)], ids=["another's", "ours"])
def test_only_a_record_of_our_own_is_removed_whoever_wrote_the_file_last(
    pidfile: PidFile, token: str, *, stays: bool
) -> None:
    pidfile.intend(RECORD)
    write_struct(pidfile.path, msgspec.structs.replace(RECORD, token=token))
    pidfile.clear()
    assert pidfile.path.exists() == stays
