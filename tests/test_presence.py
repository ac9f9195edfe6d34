"""A supervisor can be found as long as it runs, whatever happens to its files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from neo_daemons.control.address import socket_path
from neo_daemons.control.client import ControlError, NoSupervisor, Unreachable
from neo_daemons.supervision.platform import Process, current_platform
from neo_daemons.supervision.presence import Presence, find_supervisor, presence

from .harness import PROGRAMS, Child, Project, is_alive, toy, until

pytestmark = pytest.mark.long
frozen = pytest.mark.xdist_group("frozen")
"""These wait for what is stopped: one after the other, so that they never keep all workers from working."""


def answers(project: Project) -> int | None:
    """The pid of the supervisor, if it answers."""
    with contextlib.suppress(ControlError):
        return project.client.status().supervisor.pid
    return None


@pytest.fixture
def supervised(project: Project) -> tuple[Project, int, int]:
    """A project, its supervisor and its daemon."""
    project.configure(api=toy())
    supervisor = project.serve("--listen", "0")
    pid = project.reaches("api", "ready").pid
    assert pid is not None
    return project, supervisor.pid, pid


@pytest.mark.parametrize(
    "lost", ["control.sock", "supervisor.json", "supervisor.lock", "control.token", "daemons", "daemons/api.json", "."]
)
def test_lost_files_of_a_supervisor_are_recreated(supervised: tuple[Project, int, int], lost: str) -> None:
    project, supervisor, pid = supervised
    path = socket_path(project.state.path) if lost == "control.sock" else project.state.path / lost
    token = project.state.token.read_text()
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    status = project.run("status")
    assert (status.returncode, f"supervisor pid {supervisor}" in status.stdout) == (0, True), status
    until(lambda: path.exists() and project.state.token.exists(), f"{lost} again")
    assert project.state.token.read_text() == token
    assert project.daemon("api").pid == pid
    up = project.run("up")
    assert f"already running: supervisor pid {supervisor}" in up.stdout
    # Whoever adopts the daemon finds its record.
    until(lambda: lost != "." or project.state.daemon_record("api").exists(), "the daemon's record")
    down = project.run("down")
    assert (down.returncode, down.stdout) == (0, f"supervisor pid {supervisor} and its daemons have stopped\n")
    assert not is_alive(pid)
    assert project.run("status").returncode == 3


def test_daemons_of_a_killed_supervisor_with_a_recreated_directory_are_adopted(
    supervised: tuple[Project, int, int],
) -> None:
    project, supervisor, pid = supervised
    shutil.rmtree(project.state.path)
    until(lambda: answers(project) == supervisor and project.state.daemon_record("api").exists(), "it to be found")
    project.kill_supervisor()
    project.serve()
    assert project.reaches("api", "ready").pid == pid
    assert project.daemon("api").adopted


def test_a_daemon_whose_data_was_deleted_is_restarted(project: Project) -> None:
    project.configure(api=toy(data_dir=str(project.state.data_dir("api"))))
    project.serve()
    pid = project.reaches("api", "ready").pid
    shutil.rmtree(project.state.path)
    until(lambda: answers(project), "the supervisor")
    project.back("api", pid)
    assert project.state.data_dir("api").is_dir()
    assert any("data directory was deleted" in str(detail) for _, detail in project.events("api"))
    project.stop()


def test_a_supervisor_whose_project_was_deleted_ends(project: Project) -> None:
    inner = Project(project.root / "inner")
    inner.root.mkdir()
    inner.configure(api=toy("quiet"))
    supervisor = inner.serve()
    pid = inner.reaches("api", "ready").pid
    shutil.rmtree(inner.root)
    assert supervisor.wait(60) == 1
    assert pid is not None
    assert not is_alive(pid)
    assert not inner.root.exists()


@frozen
def test_a_supervisor_that_lost_its_path_exits_and_leaves_the_new_one_alone(project: Project) -> None:
    project.configure(api=toy())
    first = project.serve()
    old = project.reaches("api", "ready").pid
    os.kill(first.pid, signal.SIGSTOP)  # it does not look for a while
    shutil.rmtree(project.state.path)
    project.state.path.mkdir(mode=0o700)  # made by somebody, or put back from a backup
    project.serve()
    new = project.reaches("api", "ready").pid
    assert new != old
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(60) == 1
    said = (project.root / "serve-0.out").read_text()
    assert "another supervisor now owns it" in said
    assert old is not None
    assert not is_alive(old)
    assert project.daemon("api").pid == new
    assert project.state.daemon_record("api").exists()
    project.stop()


@frozen
def test_unreachable_is_not_reported_as_not_running(supervised: tuple[Project, int, int]) -> None:
    project, supervisor, pid = supervised
    os.kill(supervisor, signal.SIGSTOP)
    socket_path(project.state.path).unlink()
    try:
        with pytest.raises(Unreachable, match=f"supervisor pid {supervisor} holds") as raised:
            project.client.status()
        assert not isinstance(raised.value, NoSupervisor)
        for command in ("status", "up"):
            done = project.run(command)
            assert done.returncode == 1
            assert f"pid {supervisor} holds {project.state.path}" in done.stderr
            assert "neo-daemons down" in done.stderr
        project.state.record.unlink()
        doctor = project.run("doctor")
        assert f"{project.state.path} is held by pid {supervisor}" in doctor.stdout
        down = project.run("down")  # by a signal, as it cannot be asked
        assert down.returncode == 0
        assert f"supervisor pid {supervisor} and its daemons have stopped" in down.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGCONT)
    assert not is_alive(supervisor)
    assert not is_alive(pid)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory for sockets whose path is short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


def test_the_directory_of_a_short_socket_may_be_deleted_and_recreated(project: Project, runtime: Path) -> None:
    """This happens at the end of a login session."""
    project.env |= {"XDG_RUNTIME_DIR": str(runtime)}
    project.configure(api=toy("quiet"))
    where = ("--state-dir", str(project.root / ("long-name-" * 10) / "state"))
    assert project.run("up", *where).returncode == 0
    try:
        assert list(runtime.glob("*/*.sock"))
        shutil.rmtree(runtime / f"neo-daemons-{os.geteuid()}")
        assert project.run("status", *where).returncode == 0
    finally:
        assert project.run("down", *where).returncode == 0
    assert not list(runtime.glob("*/*.sock"))


def test_down_does_not_kill_a_program_that_embeds_a_supervisor(project: Project) -> None:
    project.configure(api=toy("quiet"))
    command = [sys.executable, str(PROGRAMS / "embedded.py")]
    with Child(command, cwd=project.root, env=project.env, stdin=PIPE, stdout=PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "hangs\n"
        down = project.run("down")
        assert down.returncode == 1
        assert f"pid {program.pid} is a program that embeds the supervisor; stop that program yourself" in down.stderr
        assert program.poll() is None
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.wait(60) == 0


@frozen
def test_a_stopped_supervisor_whose_files_were_deleted_is_found(
    supervised: tuple[Project, int, int],
) -> None:
    project, supervisor, pid = supervised
    os.kill(supervisor, signal.SIGSTOP)
    try:
        shutil.rmtree(project.state.path)
        for command, code in ((["status"], 1), (["up"], 1), (["serve"], 4)):
            done = project.run(*command)
            assert (done.returncode, f"pid {supervisor}" in done.stderr) == (code, True), done
        assert is_alive(pid)
        down = project.run("down")
        assert (down.returncode, f"supervisor pid {supervisor} and its daemons have stopped" in down.stdout) == (
            0,
            True,
        ), down
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGCONT)
    assert not is_alive(pid)


def test_an_order_of_a_client_that_gave_up_is_not_carried_out_later(supervised: tuple[Project, int, int]) -> None:
    project, supervisor, pid = supervised
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for request in ("shutdown", "daemons/api/stop"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(socket_path(project.state.path)))
                client.sendall(f"POST /v1/{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    finally:
        os.kill(supervisor, signal.SIGCONT)
    # The answer to a later request: by then the earlier ones have been dealt with.
    assert project.daemon("api").pid == pid
    assert not project.client.status().supervisor.stopping


@frozen
def test_no_second_supervisor_starts_beside_one_whose_lock_was_deleted(supervised: tuple[Project, int, int]) -> None:
    project, supervisor, pid = supervised
    os.kill(supervisor, signal.SIGSTOP)
    try:
        project.state.lock.unlink()
        serve = project.run("serve")
        assert (serve.returncode, f"already supervised by pid {supervisor}" in serve.stderr) == (4, True), serve
    finally:
        os.kill(supervisor, signal.SIGCONT)
    until(lambda: project.state.lock.exists(), "the lock")
    assert project.daemon("api").pid == pid


def test_a_supervisor_that_recreates_its_lock_during_the_search_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure(api=toy())
    supervisor = project.serve()
    project.reaches("api", "ready")
    platform = current_platform()
    search = platform.lock_holders
    searches: list[bool] = []

    def recreated_meanwhile(lock: Path, *, deleted: bool = False) -> list[Process] | None:
        searches.append(deleted)
        if deleted:
            until(lambda: presence(project.state) is Presence.RUNNING and project.state.record.exists(), "its files")
        return search(lock, deleted=deleted)

    monkeypatch.setattr(platform, "lock_holders", recreated_meanwhile)
    shutil.rmtree(project.state.path)
    found = find_supervisor(project.state, platform)
    assert found is not None
    assert found.process is not None
    assert found.process.pid == supervisor.pid
    found.close()
    assert searches == [True]
