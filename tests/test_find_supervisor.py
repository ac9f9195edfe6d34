"""What the lock of a state directory says about its supervisor, and who that supervisor is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neo_daemons.files import write_struct
from neo_daemons.locks import supervisor_lock
from neo_daemons.records import Directory, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.presence import Presence, find_supervisor, presence

NO_PID = 2**22 - 1
"""Above any process id that is in use."""


@pytest.fixture
def state_dir(tmp_path: Path) -> StateDir:
    state_dir = StateDir(tmp_path / "state")
    state_dir.create()
    return state_dir


@pytest.fixture
def supervised(state_dir: StateDir) -> Iterator[StateDir]:
    """This process is the supervisor."""
    lock = supervisor_lock(state_dir.lock)
    lock.acquire(timeout=0)
    announce(state_dir)
    yield state_dir
    lock.release()


def announce(state_dir: StateDir, pid: int | None = None, directory: Path | None = None) -> None:
    record = SupervisorRecord(
        directory=Directory.of(directory or state_dir.path),
        pid=pid or os.getpid(),
        identity=current_platform().own_identity(),
        token="token",
        version="1",
        socket="/nowhere",
        config=None,
        started_at=time.time(),
    )
    write_struct(state_dir.record, record)


def test_a_directory_without_lock_and_record_is_unused(state_dir: StateDir) -> None:
    assert presence(state_dir) is Presence.UNUSED
    assert find_supervisor(state_dir) is None
    assert not state_dir.lock.exists()


def test_a_supervisor_that_ended_is_absent_whatever_its_record_says(supervised: StateDir) -> None:
    lock = supervised.lock.with_name("copy")
    shutil.copy(supervised.lock, lock)
    lock.replace(supervised.lock)  # a file of that name which nobody holds
    assert presence(supervised) is Presence.ABSENT
    assert find_supervisor(supervised) is None


def test_a_supervisor_that_holds_the_lock_is_running_and_its_record_says_who_it_is(supervised: StateDir) -> None:
    assert presence(supervised) is Presence.RUNNING
    found = find_supervisor(supervised)
    assert found is not None
    assert found.process is not None
    assert found.record is not None
    assert (found.process.pid, found.record.pid, found.fault, str(found)) == (
        os.getpid(),
        os.getpid(),
        None,
        f"pid {os.getpid()}",
    )
    found.close()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda state_dir: state_dir.record.unlink(), "is missing"),
        (lambda state_dir: state_dir.record.write_text("{"), "is damaged"),
        (lambda state_dir: announce(state_dir, directory=state_dir.logs), "is a copy"),
        (lambda state_dir: announce(state_dir, pid=os.getppid()), "names another process"),
        (lambda state_dir: announce(state_dir, pid=NO_PID), f"names pid {NO_PID}, which has exited"),
    ],
    ids=["missing", "damaged", "copied", "of-another-process", "of-one-that-ended"],
)
def test_a_supervisor_whose_record_does_not_say_who_it_is_is_found_by_its_lock(
    supervised: StateDir, damage: Callable[[StateDir], None], fault: str
) -> None:
    damage(supervised)
    assert presence(supervised) is Presence.RUNNING
    found = find_supervisor(supervised)
    assert found is not None
    assert found.record is None
    assert found.fault is not None
    assert fault in found.fault
    assert found.problem.startswith(f"{supervised.path} is held by ")
    assert str(supervised.path) in found.remedy
    found.close()


@pytest.mark.parametrize("deleted", ["supervisor.lock", "."])
def test_where_the_lock_was_deleted_its_supervisor_may_be_cut_off(supervised: StateDir, deleted: str) -> None:
    path = supervised.path / deleted
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert presence(supervised) is Presence.LOCK_DELETED


def test_a_supervisor_whose_lock_alone_was_deleted_is_found_by_its_record(supervised: StateDir) -> None:
    supervised.lock.unlink()
    found = find_supervisor(supervised)
    assert found is not None
    assert found.record is not None
    found.close()


def test_a_record_of_a_dead_supervisor_without_its_lock_is_nobody(state_dir: StateDir) -> None:
    announce(state_dir, NO_PID)
    assert presence(state_dir) is Presence.LOCK_DELETED
    assert find_supervisor(state_dir) is None
