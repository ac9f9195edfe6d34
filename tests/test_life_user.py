"""A daemon that runs as another user than its supervisor, and what that user cannot do to others."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neo_daemons import accounts
from neo_daemons.definitions import Account, CannotRun, Definition
from neo_daemons.records import Directory
from neo_daemons.seeds import replacing
from neo_daemons.supervision.platform import MARK_VARIABLE, Mark, current_platform
from neo_daemons.supervision.slot import DATA_LOCK

from .harness import FAST, PATIENCE_S, Project, is_alive, kill, until

pytestmark = pytest.mark.long

NOBODY = "nobody"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a program as another user")
MARKED = pytest.mark.not_macos("the strays are programs of the system, whose environment is withheld there")
# The stray has none of the locks, so only its mark tells whose it is.
SCRIPT = """
echo "$(id -un) $HOME $USER $(id -G)" > ${data_dir}/who
{
    for path in /proc/self/fd/*; do
        number=${path##*/}
        test $number -lt 3 || eval "exec $number>&-"
    done
    exec setsid sleep 600
} &
echo up > /dev/stderr
exec sleep 600
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all users may enter; those of pytest are closed."""
    directory = Path(tempfile.mkdtemp(prefix="neo-user-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def theirs(place: Path, **settings: Any) -> dict[str, Any]:
    table = {
        "command": ["bash", "-c", SCRIPT.replace("$", "$$").replace("$${data_dir}", "${data_dir}")],
        "user": NOBODY,
        "cwd": "/",
        "data_dir": str(place / "data"),
        "ready": {"type": "exec", "command": ["sh", "-c", 'test "$$(id -un)" = nobody && test -s ${data_dir}/who']},
        "restart": FAST,
        "stop": {"grace_s": 5.0},
    }
    return table | settings


def owner(path: Path | str) -> str:
    return pwd.getpwuid(os.stat(path).st_uid).pw_name


def stray_of(project: Project, pid: int | None) -> int | None:
    """The process that the script has left behind, once it has begun to sleep."""
    strays = [other for other in project.left() if other != pid]
    return strays[0] if [*map(_program, strays)] == ["sleep"] else None


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@MARKED
@AS_ROOT
def test_it_runs_as_that_user_and_nothing_of_it_is_left(project: Project, place: Path) -> None:
    project.configure(db=theirs(place))
    project.serve()
    db = project.reaches("db", "ready")
    account = pwd.getpwnam(NOBODY)
    groups = " ".join(map(str, os.getgrouplist(NOBODY, account.pw_gid)))
    assert (place / "data/who").read_text() == f"{NOBODY} {account.pw_dir} {NOBODY} {groups}\n"
    assert (owner(f"/proc/{db.pid}"), db.user) == (NOBODY, NOBODY)
    assert (owner(place / "data"), stat.S_IMODE((place / "data").stat().st_mode)) == (NOBODY, 0o700)
    assert project.state.daemon_log("db").read_text() == "up\n"
    assert stat.S_IMODE(project.state.path.stat().st_mode) == 0o700
    stray = until(lambda: stray_of(project, db.pid), "the stray")
    kill(db.pid)
    again = project.back("db", db.pid)
    assert not is_alive(stray), "the stray of the first run was not swept"
    until(lambda: stray_of(project, again.pid), "the next stray")
    assert project.run("stop", "db").returncode == 0
    assert project.left() == []
    assert not is_alive(again.pid or 0)


@MARKED
@AS_ROOT
@pytest.mark.parametrize("ends", ["stop", "reap"])
def test_what_a_probe_leaves_behind_is_ended_with_its_daemon(project: Project, place: Path, ends: str) -> None:
    # The second process of the probe is not below the daemon, and has none of its locks.
    stay = "setsid sh -c 'echo $$$$ > ${data_dir}/pid; exec sleep 600' > /dev/null 2>&1 &"
    probe = f"test -s ${{data_dir}}/pid || {{ {stay} until test -s ${{data_dir}}/pid; do sleep 0.01; done; }}"
    project.configure(db=theirs(place, ready={"type": "exec", "command": ["sh", "-c", probe]}))
    project.serve()
    project.reaches("db", "ready")
    stray = int((place / "data/pid").read_text())
    assert owner(f"/proc/{stray}") == NOBODY
    if ends == "reap":
        project.kill_supervisor()
    assert project.run(ends, *(["db"] if ends == "stop" else [])).returncode == 0
    assert not is_alive(stray)


@MARKED
@AS_ROOT
def test_a_lock_that_its_user_has_made_a_pipe_stops_nobody(project: Project, place: Path) -> None:
    """To read it would block the supervisor."""
    project.configure(db=theirs(place))
    project.serve()
    project.reaches("db", "ready")
    assert project.run("stop", "db").returncode == 0
    pipe = place / "data" / DATA_LOCK
    pipe.unlink()
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        project.client.order("db", "start")
        assert "is in use by an unidentified process" in (project.reaches("db", "parked").detail or "")
    finally:
        os.close(held)


@MARKED
@AS_ROOT
def test_a_survivor_is_adopted_and_without_a_supervisor_reaped(project: Project, place: Path) -> None:
    project.configure(db=theirs(place))
    project.serve()
    first = project.reaches("db", "ready")
    project.kill_supervisor()
    project.serve()
    adopted = project.reaches("db", "ready")
    assert (adopted.pid, adopted.adopted) == (first.pid, True)
    project.kill_supervisor()
    reaped = project.run("reap")
    assert f"pid {first.pid}" in reaped.stdout
    assert project.left() == []


@MARKED
@AS_ROOT
def test_a_directory_of_somebody_else_is_refused_with_the_command_that_helps(project: Project, place: Path) -> None:
    (place / "data").mkdir()
    project.configure(db=theirs(place))
    project.serve()
    refused = project.reaches("db", "parked")
    command = f"chown -R {NOBODY} {place}/data"
    assert f"data_dir: {place}/data belongs to root, not to {NOBODY}; run: {command}" in (refused.detail or "")
    subprocess.run(command.split(), check=True)
    project.client.order("db", "start")
    project.reaches("db", "ready")


@MARKED
@AS_ROOT
def test_what_is_restored_belongs_to_that_user_again(project: Project, place: Path) -> None:
    project.configure(db=theirs(place))
    project.serve()
    project.reaches("db", "ready")
    snapshot = str(project.root / "snapshot.tar.gz")
    assert project.run("snapshot", "db", snapshot).returncode == 0
    restored = project.run("restore", "db", snapshot)
    assert restored.returncode == 0, restored.stderr
    project.reaches("db", "ready")
    assert {owner(place / "data"), owner(place / "data/who")} == {NOBODY}


@AS_ROOT
def test_a_restored_tree_is_closed_to_its_user_until_all_of_it_has_been_given_away(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they could put a link where a file was, and be given what it names."""
    data, new, outside = place / "data", place / "new", place / "outside"
    data.mkdir()
    account = pwd.getpwnam(NOBODY)
    os.chown(data, account.pw_uid, account.pw_gid)
    (new / "a/b").mkdir(parents=True)
    new.chmod(0o700)
    (new / "a/b/file").touch()
    (new / "a/link").symlink_to(outside)
    outside.touch()
    owners = []
    chown = os.chown

    def spied(path: Any, uid: int, gid: int, **options: Any) -> None:
        owners.append(owner(new))
        chown(path, uid, gid, **options)

    monkeypatch.setattr(os, "chown", spied)
    replacing.replace(data, new)
    assert set(owners) == {"root"}
    given = [data, data / "a", data / "a/b", data / "a/b/file"]
    assert {owner(path) for path in given} == {NOBODY}
    assert (data / "a/link").lstat().st_uid == account.pw_uid
    assert owner(outside) == "root"


@MARKED
@AS_ROOT
@pytest.mark.parametrize("key", ["cwd", "data_dir"])
def test_a_closed_directory_is_named(project: Project, place: Path, key: str) -> None:
    closed = place / "closed"
    (closed / "inside").mkdir(parents=True)
    closed.chmod(0o700)
    project.configure(db=theirs(place, **{key: str(closed / "inside")}))
    project.serve()
    refused = project.reaches("db", "parked")
    assert f"{key}: {NOBODY} may not enter {closed}" in (refused.detail or "")
    closed.chmod(0o711)
    if key == "data_dir":
        (closed / "inside").rmdir()
    project.client.order("db", "start")
    project.reaches("db", "ready")


@AS_ROOT
def test_a_program_that_the_user_may_not_run_is_named(project: Project, place: Path) -> None:
    program = place / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    project.configure(db=theirs(place, command=[str(program)], restart="never"))
    project.serve()
    assert f"{program}: {NOBODY} may not run it" in (project.reaches("db", "parked").detail or "")


@AS_ROOT
def test_an_unknown_user_is_a_reason_not_to_run(project: Project, place: Path) -> None:
    project.configure(db=theirs(place, user="nemo-0815"))
    project.serve()
    db = project.reaches("db", "unavailable")
    assert db.detail == "user = 'nemo-0815': this machine has no such user"
    assert db.remedy == "create it, or correct daemons.db.user"


@AS_ROOT
def test_another_user_is_another_definition(project: Project, place: Path) -> None:
    ready = {"type": "log", "pattern": "up"}
    table = theirs(place, command=["sh", "-c", "echo up; exec sleep 600"], ready=ready)
    del table["data_dir"]
    project.configure(db=table)
    project.serve()
    first = project.reaches("db", "ready")
    project.configure(db=table | {"user": "root"})
    assert "replace" in project.run("reload").stdout
    second = project.back("db", first.pid)
    assert owner(f"/proc/{second.pid}") == "root"


@MARKED
@AS_ROOT
@pytest.mark.parametrize("mode", [0o755, 0o4755])
def test_a_mark_that_another_user_has_forged_proves_nothing(project: Project, place: Path, mode: int) -> None:
    """Else any user could make root signal, or wait for, what they run."""
    project.configure(db=theirs(place))
    project.serve()
    db = project.reaches("db", "ready")
    here = Directory.of(project.state.path)
    assert here is not None
    account = pwd.getpwnam(NOBODY)
    program = place / "sleep"
    shutil.copyfile(shutil.which("sleep") or "", program)
    program.chmod(mode)  # a setuid program is root's, but its environment comes from whoever starts it
    forged = subprocess.Popen(
        [str(program), "600"],
        env={MARK_VARIABLE: str(Mark("0" * 32, "db", here))},
        user=account.pw_uid,
        group=account.pw_gid,
        cwd="/",
        start_new_session=True,
    )
    try:
        platform = current_platform()
        assert until(lambda: platform.mark_of(forged.pid), "the mark").foreign
        kill(db.pid)
        project.back("db", db.pid)
        assert project.run("stop", "db").returncode == 0
        project.stop()
        assert f"pid {forged.pid} " not in project.run("reap").stdout  # nor of the projects of others
        assert str(forged.pid) not in project.run("doctor").stdout
        assert forged.poll() is None
    finally:
        forged.send_signal(signal.SIGKILL)
        forged.wait(PATIENCE_S)


def test_without_the_right_to_do_so_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    uid = pwd.getpwnam(NOBODY).pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert accounts.account_of(Definition(name="db", user=NOBODY)) is None
    found = accounts.account_of(Definition(name="db", user="root"))
    assert isinstance(found, CannotRun)
    assert found.reason == f"user = 'root': only root may start a program as another user, and this is {NOBODY}"
    assert found.remedy == "run the supervisor as root, or remove daemons.db.user"


def test_the_way_is_judged_by_owner_group_and_others(tmp_path: Path) -> None:
    own = os.getuid()
    directory = tmp_path / "directory"
    directory.mkdir()
    others = [(uid, groups) for uid in (own, own + 1) for groups in ((), (os.getgid(),))]
    for mode, open_to in ((0o100, [0, 1]), (0o010, [3]), (0o001, [2]), (0o000, []), (0o711, [0, 1, 2, 3])):
        directory.chmod(mode)
        found = []
        for number, (uid, groups) in enumerate(others):
            account = Account(name="x", uid=uid, gid=0, groups=groups, home="/")
            if accounts.barred_by(directory, account) != directory:
                found.append(number)
        # The directories above are closed to strangers, if pytest's are.
        strangers = accounts.barred_by(tmp_path, Account(name="x", uid=own + 1, gid=0, groups=(), home="/"))
        assert found == (open_to if strangers is None else sorted({*open_to, 2, 3})), oct(mode)
    directory.chmod(0o700)
