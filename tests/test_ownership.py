"""What belongs to a state directory that was copied, moved, mounted elsewhere, restored or deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neo_daemons.records import Directory

from .harness import Project, in_namespace, is_alive, toy, until

pytestmark = pytest.mark.long


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Project]:
    """A second project, in a directory that does not exist yet."""
    project = Project(tmp_path / "other")
    yield project
    left = project.close()
    assert not left, f"left running: {left}"


@contextlib.contextmanager
def running(project: Project, **daemons: dict[str, object]) -> Iterator[dict[str, int]]:
    """Return the pids of supervised daemons."""
    project.configure(**daemons)
    project.serve()
    pids = {}
    for name in daemons:
        pid = project.reaches(name, "ready").pid
        assert pid is not None
        pids[name] = pid
    yield pids


def without_mark(pid: int) -> bool:
    return b"NEO_DAEMONS_MARK" not in Path(f"/proc/{pid}/environ").read_bytes()


def copy(project: Project, to: Project) -> None:
    """Copy the files of a project, as ``cp -a`` does."""
    to.root.mkdir()
    subprocess.run(
        ["cp", "-a", str(project.state.path), "neo-daemons.toml", str(to.root)], cwd=project.root, check=True
    )


# Copies


@pytest.mark.parametrize("command", [["status"], ["stop", "api"], ["hold", "api"], ["reload"], ["why", "api"]])
def test_in_a_copy_no_command_reaches_the_original(project: Project, other: Project, command: list[str]) -> None:
    with running(project, api=toy("quiet")) as pids:
        copy(project, other)
        done = other.run(*command)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"its files were copied from {project.state.path}" in done.stderr
        assert project.daemon("api").pid == pids["api"]
        assert not project.daemon("api").held


def test_down_and_reap_in_a_copy_end_nothing_of_the_original(project: Project, other: Project) -> None:
    with running(project, api=toy("quiet"), titled=toy("titled")) as pids:
        copy(project, other)
        for command in ("down", "reap"):
            assert other.run(command).returncode == 0
        assert {name: project.daemon(name).pid for name in pids} == pids
        assert f"were copied from {project.state.path}" in other.run("doctor").stdout
        # Nor if nobody supervises the original.
        project.kill_supervisor()
        for command in ("down", "reap"):
            assert other.run(command).returncode == 0
        assert all(map(is_alive, pids.values()))
        assert project.run("down").returncode == 0


@pytest.mark.parametrize("killed", [False, True], ids=["supervised", "orphaned"])
def test_serve_in_a_copy_starts_daemons_of_its_own(project: Project, other: Project, killed: bool) -> None:
    with running(project, api=toy(data_dir="data"), titled=toy("titled")) as pids:
        copy(project, other)
        if killed:
            project.kill_supervisor()
        with running(other, api=toy(data_dir="data"), titled=toy("titled")) as own:
            assert not set(own.values()) & set(pids.values())
            assert all(map(is_alive, pids.values()))
            assert [detail for event, detail in other.events() if event == "state-dir-copied"] == [
                f"{other.state.path} was copied from {project.state.path}; its daemons do not belong to this copy"
            ]
            assert "replaced" not in [event for event, _ in other.events()]
            other.stop()
        assert all(map(is_alive, pids.values()))
        if killed:
            with running(project, api=toy(data_dir="data"), titled=toy("titled")) as again:
                assert again == pids
        project.stop()


def test_a_fixed_port_of_the_original_is_refused_to_the_copy_and_the_original_is_left_alone(
    project: Project, other: Project
) -> None:
    with running(project, api=toy()) as pids:
        port = project.daemon("api").ports["main"]
        copy(project, other)
        other.configure(api=toy(port=port))
        other.serve()
        parked = other.reaches("api", "parked")
        assert f"port {port} is held by pid {pids['api']}" in str(parked.detail)
        assert project.daemon("api").pid == pids["api"]
        assert project.daemon("api").restarts == 0


def test_an_observer_in_a_copy_does_not_call_the_originals_daemon_managed(project: Project, other: Project) -> None:
    from neo_daemons.health import HttpObserver

    with running(project, api=toy()):
        copy(project, other)
        url = project.daemon("api").url
        assert HttpObserver(url, name="api", state_dir=project.state.path).check().managed is True
        seen = HttpObserver(url, name="api", state_dir=other.state.path).check()
        assert (seen.record, seen.managed) == ("missing", False)


def test_a_restored_backup_does_not_apply_to_running_processes(project: Project) -> None:
    backup = project.root / "backup"
    with running(project, api=toy("quiet")):
        shutil.copytree(project.state.path, backup, ignore=shutil.ignore_patterns("*.sock"))
        project.stop()
    shutil.rmtree(project.state.path)
    backup.rename(project.state.path)
    with subprocess.Popen(["sleep", "600"]) as bystander:
        assert project.run("status").returncode == 3
        assert project.run("down").returncode == 0
        with running(project, api=toy("quiet")):
            assert bystander.poll() is None
        bystander.kill()


# Moves


def test_a_supervisor_whose_project_was_moved_ends_with_its_daemons_and_says_why(
    project: Project, other: Project
) -> None:
    inner = Project(project.root / "inner")
    inner.root.mkdir()
    inner.configure(api=toy("quiet"), titled=toy("titled"))
    supervisor = inner.serve()
    pids = [inner.reaches(name, "ready").pid for name in ("api", "titled")]
    inner.root.rename(other.root)
    assert supervisor.wait(60) == 1
    said = (other.root / "serve-0.out").read_text()
    assert f"it was moved to {other.state.path}" in said
    assert "Traceback" not in said
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    assert not inner.root.exists()
    assert other.run("down").returncode == 0


@pytest.mark.parametrize("command", ["serve", "down", "reap"])
def test_survivors_in_a_moved_project_still_belong_to_it(project: Project, other: Project, command: str) -> None:
    inner = Project(project.root / "inner")
    inner.root.mkdir()
    with running(inner, api=toy(data_dir="data"), titled=toy("titled")) as pids:
        inner.kill_supervisor()
    inner.root.rename(other.root)
    # Somebody makes a new project at the old place: nothing of the moved one is that one's.
    inner.root.mkdir()
    inner.configure(api=toy("quiet"))
    inner.serve()
    inner.reaches("api", "ready")
    for each in ("reap", "doctor"):
        inner.run(each)
    inner.stop()
    assert all(map(is_alive, pids.values()))
    if command == "serve":
        other.configure(api=toy(data_dir="data"), titled=toy("titled"))
        other.serve()
        for name in pids:
            other.reaches(name, "ready")
        other.stop()
    else:
        done = other.run(command)
        assert done.returncode == 0
        assert all(str(pid) in done.stdout for pid in pids.values()), done
    until(lambda: not any(map(is_alive, pids.values())), "the end of what was left")


def test_a_directory_mounted_in_two_places_is_one_directory(project: Project) -> None:
    with running(project, api=toy("quiet")) as pids:
        elsewhere = project.root / "elsewhere"
        elsewhere.mkdir()
        mount = in_namespace(f"mount --bind {project.state.path} {elsewhere}")
        command = [*mount, sys.executable, "-m", "neo_daemons"]
        for arguments in (["status"], ["hold", "api"], ["down"]):
            done = subprocess.run(
                [*command, *arguments, "--state-dir", str(elsewhere)],
                cwd=project.root,
                env=project.env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done
        assert not is_alive(pids["api"])


# Daemons that overwrite their environment


@pytest.mark.parametrize("command", ["down", "reap", "serve"])
def test_a_daemon_that_has_overwritten_its_environment_is_found_by_its_lock(project: Project, command: str) -> None:
    with running(project, titled=toy("titled"), api=toy("quiet")) as pids:
        assert without_mark(pids["titled"])
        project.kill_supervisor()
    doctor = project.run("doctor")
    assert f"pid {pids['titled']} " in doctor.stdout
    if command == "serve":
        with running(project, titled=toy("titled"), api=toy("quiet")) as adopted:
            assert adopted == pids
        project.stop()
    else:
        done = project.run(command)
        assert done.returncode == 0
        assert f"stopped titled, pid {pids['titled']}" in done.stdout
    until(lambda: not any(map(is_alive, pids.values())), "the end of both")


def test_reap_beside_a_supervisor_leaves_a_daemon_without_mark_alone(project: Project) -> None:
    with running(project, titled=toy("titled")) as pids:
        assert without_mark(pids["titled"])
        assert f"pid {pids['titled']} " not in project.run("reap").stdout
        assert is_alive(pids["titled"])


# Deleted


@pytest.mark.linux("what a process has open is not shown once it is deleted, so its directory cannot be told")
def test_survivors_of_a_deleted_supervisor_and_directory_are_stopped(project: Project) -> None:
    with running(project, api=toy()) as pids:
        project.kill_supervisor()
    shutil.rmtree(project.state.path)
    doctor = project.run("doctor")
    assert f"pid {pids['api']} " in doctor.stdout
    down = project.run("down")
    assert f"stopped api, pid {pids['api']}" in down.stdout
    assert not is_alive(pids["api"])


@pytest.mark.parametrize("other", ["directory", "path"])
def test_a_mark_of_another_directory_proves_nothing_though_path_or_inode_are_the_same(
    project: Project, other: str
) -> None:
    """A new directory may get the inode of one that was deleted elsewhere."""
    with running(project, api=toy("quiet")):
        project.stop()
    here = Directory.of(project.state.path)
    assert here is not None
    mark = f"{'0' * 32}:api:{'1.1' if other == 'directory' else here.key}:"
    mark += str(project.state.path if other == "directory" else project.root / "gone" / ".neo-daemons")
    with subprocess.Popen(["sleep", "600"], env={**os.environ, "NEO_DAEMONS_MARK": mark}) as bystander:
        assert project.run("down").returncode == 0
        assert project.run("reap").returncode == 0
        with running(project, api=toy("quiet")):
            project.stop()
        assert bystander.poll() is None
        bystander.send_signal(signal.SIGKILL)
