"""The project relies on these properties of filelock's lock, in any installed version."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from neo_daemons.locks import is_held, supervisor_lock
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import current_platform


def test_the_file_of_a_supervisors_lock_outlives_its_release(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    lock = supervisor_lock(path)
    lock.acquire(timeout=0)
    inode = path.stat().st_ino
    lock.release()
    assert path.stat().st_ino == inode


def test_a_supervisors_lock_is_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    lock = supervisor_lock(path)
    lock.acquire(timeout=0)
    assert current_platform().lock(path) is None
    assert is_held(path)
    with path.open("r+") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.release()
    assert not is_held(path)
    other = current_platform().lock(path)
    assert other is not None
    with pytest.raises(Timeout):
        supervisor_lock(path).acquire(timeout=0)
    other.release()


def test_a_supervisors_lock_is_freed_when_its_process_exits(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.lock"
    code = (
        "import sys, pathlib; from neo_daemons.locks import supervisor_lock; "
        "lock = supervisor_lock(pathlib.Path(sys.argv[1])); lock.acquire(timeout=0); print('held', flush=True); "
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


def test_the_path_of_a_daemons_lock_is_made_once(tmp_path: Path) -> None:
    """Else each run would add to the interpreter's table of interned strings."""
    state = StateDir(tmp_path)
    assert state.daemon_lock("a") is state.daemon_lock("a")
    assert state.daemon_lock("b") == tmp_path / "daemons" / "b.lock"
