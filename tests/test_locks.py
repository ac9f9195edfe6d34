"""The lock of a supervisor is the kernel's, and its file stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neo_daemons.locks import LockTaken, SupervisorLock, is_held
from neo_daemons.supervision.platform import current_platform


def test_the_file_of_a_supervisors_lock_outlives_its_release(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    lock = SupervisorLock(path)
    lock.acquire()
    inode = path.stat().st_ino
    lock.release()
    assert path.stat().st_ino == inode


def test_a_supervisors_lock_is_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    lock = SupervisorLock(path)
    lock.acquire()
    assert current_platform().lock(path) is None
    assert is_held(path)
    with path.open("r+") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.release()
    assert not is_held(path)
    other = current_platform().lock(path)
    assert other is not None
    with pytest.raises(LockTaken):
        SupervisorLock(path).acquire()
    other.release()


def test_a_supervisors_lock_is_freed_when_its_process_exits(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    code = (
        "import sys, pathlib; from neo_daemons.locks import SupervisorLock; "
        "lock = SupervisorLock(pathlib.Path(sys.argv[1])); lock.acquire(); print('held', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(path)
        holder.kill()
        holder.wait()
    assert not is_held(path)


def test_checking_a_lock_creates_no_file_and_follows_no_link(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").touch()
    with pytest.raises(OSError, match=os.strerror(40)):
        is_held(tmp_path / "link")


def test_a_lock_on_a_file_that_was_deleted_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "supervisor.lock"
    flock = fcntl.flock
    deletions: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not deletions:
            path.unlink()
            deletions.append(path)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = SupervisorLock(path)
    lock.acquire(timeout_s=10.0, poll_s=0.0)
    assert deletions
    assert is_held(path)
    lock.release()
