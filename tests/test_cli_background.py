"""``up``, ``down``, ``reap`` and ``doctor``: what they do when the state directory is not what they expect."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from .harness import PATIENCE_S, Child, Project, toy

pytestmark = pytest.mark.long


def spawned_by_up(project: Project) -> list[int]:
    """Return the supervisors that `up` has started here: their command lines name the state directory."""
    path = str(project.state.path)
    return [process.pid for process in psutil.process_iter() if path in _command(process)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextlib.contextmanager
def unreadable(project: Project) -> Iterator[None]:
    """Damage the record of the project's supervisor, and suspend the supervisor so that it cannot repair it."""
    record = project.state.record.read_text()
    os.kill(json.loads(record)["pid"], signal.SIGSTOP)
    project.state.record.write_text("{")
    try:
        yield
    finally:
        project.state.record.write_text(record)
        os.kill(json.loads(record)["pid"], signal.SIGCONT)


def test_the_daemons_of_a_running_supervisor_with_a_damaged_record_are_not_stopped(project: Project) -> None:
    project.configure(api=toy("quiet"))
    supervisor = project.serve()
    pid = project.reaches("api", "ready").pid
    with unreadable(project):
        reap = project.run("reap")
        assert reap.returncode == 1
        assert "nothing was stopped" in reap.stderr
        assert f"pid {supervisor.pid}" in reap.stderr
        assert "is damaged" in reap.stderr
        doctor = project.run("doctor")
        assert doctor.returncode == 1
        assert "is damaged" in doctor.stdout
        assert f"pid {supervisor.pid}" in doctor.stdout
        assert f"pid {pid} " not in doctor.stdout  # nobody is told to reap it
        project.state.record.unlink()
        reap = project.run("reap")
        assert (reap.returncode, "is missing" in reap.stderr) == (1, True)
    assert project.daemon("api").pid == pid


def test_up_leaves_no_process_behind_when_it_cannot_connect(project: Project) -> None:
    project.configure(api=toy("quiet"))
    supervisor = project.serve()
    with unreadable(project):
        up = project.run("up")
        assert up.returncode == 1
        assert f"pid {supervisor.pid} holds" in up.stderr
        assert "supervisor.json" in up.stderr
        assert spawned_by_up(project) == []


def test_a_takeover_that_cannot_listen_leaves_the_old_supervisor_in_charge(project: Project) -> None:
    project.configure(api=toy("quiet"))
    supervisor = project.serve()
    pid = project.reaches("api", "ready").pid
    with socket.create_server(("127.0.0.1", 0)) as taken:
        up = project.run("up", "--takeover", "--listen", str(taken.getsockname()[1]))
    assert (up.returncode, "cannot listen on" in up.stderr) == (1, True), up
    assert supervisor.poll() is None
    assert project.daemon("api").pid == pid


def test_a_takeover_may_listen_where_the_old_supervisor_does(project: Project) -> None:
    project.configure(api=toy("quiet"))
    old = project.serve("--listen", "0")
    url = project.client.status().supervisor.url
    assert url is not None
    project.serve("--takeover", "--listen", url.removeprefix("http://"))
    assert old.wait(PATIENCE_S) == 0
    assert project.client.status().supervisor.url == url


def test_up_reports_options_without_effect_on_the_running_supervisor(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve()
    project.reaches("api", "ready")
    other = project.root / "other.toml"
    other.write_text("[daemons.late]\ncommand = ['true']\n")
    again = project.run("up", "--listen", "0", "--config", str(other), "--state-dir", str(project.state.path))
    assert again.returncode == 0
    assert "--listen has no effect (the control API is not served over TCP)" in again.stderr
    assert f"--config has no effect (the running supervisor uses {project.root / 'neo-daemons.toml'})" in again.stderr
    assert "up --takeover" in again.stderr
    assert project.run("up", "--config", "neo-daemons.toml").stderr == ""


def test_up_exits_with_5_if_the_running_supervisor_does_not_know_a_required_daemon(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve("--listen", "0")
    project.reaches("api", "ready")
    project.configure(api=toy("quiet"), late=toy("quiet"))
    up = project.run("up", "--require", "late", "--listen", "0")
    assert up.returncode == 5
    assert "required: late: " in up.stderr
    assert "neo-daemons reload" in up.stderr
    assert "no effect" not in up.stderr
    project.client.reload()
    assert project.run("up", "--require", "late").returncode == 0


def test_down_ends_followers_and_the_supervisor_does_not_complain(project: Project) -> None:
    project.configure(api=toy("quiet", "write=said once"))
    supervisor = project.serve()
    project.reaches("api", "ready")
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(follow(project, *what)) for what in (["logs", "api"], ["events"])]
        assert [follower.stdout.readline() != "" for follower in followers if follower.stdout] == [True, True]
        project.client.shutdown()
        said, events = [follower.stdout.read() for follower in followers if follower.stdout]
        assert [follower.wait(PATIENCE_S) for follower in followers] == [0, 0]
    assert said == "quiet and ready\n"
    assert "supervisor-stopped" in events
    assert supervisor.wait(PATIENCE_S) == 0
    assert "Traceback" not in project.output()


def test_followers_of_a_killed_supervisor_end(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve()
    project.reaches("api", "ready")
    with follow(project, "logs", "api") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "quiet and ready\n"
        project.kill_supervisor()
        assert follower.stdout.read() == ""
        assert follower.wait(PATIENCE_S) == 0
    project.run("down")


def follow(project: Project, *what: str) -> Child:
    command = [sys.executable, "-m", "neo_daemons", *what, "-f"]
    return Child(command, cwd=project.root, env=project.env, text=True, stdout=subprocess.PIPE)


def test_each_up_starts_a_new_supervisor_log(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.state.create()
    project.state.supervisor_log.write_text("of an earlier one\n")
    assert project.run("up").returncode == 0
    assert "of an earlier one" not in project.state.supervisor_log.read_text()
    assert project.run("down").returncode == 0


def test_up_does_not_truncate_the_log_of_a_running_supervisor(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve()
    project.state.supervisor_log.write_text("of the living one\n")
    with unreadable(project):
        assert project.run("up").returncode == 1
    assert project.state.supervisor_log.read_text().startswith("of the living one\n")


def test_doctor_searches_for_a_program_where_the_daemon_will_be_started(project: Project) -> None:
    for where in ("sub", "sub/bin"):
        (project.root / where).mkdir()
        (project.root / where / "run.sh").write_text("#!/bin/sh\n")
        (project.root / where / "run.sh").chmod(0o755)
    project.configure(
        near={"command": ["./run.sh"], "cwd": "sub"},
        on_path={"command": ["run.sh"], "cwd": "sub", "env": {"PATH": "bin:/usr/bin"}},
        gone={"command": ["./run.sh"]},
        not_on_path={"command": ["run.sh"], "cwd": "sub"},
    )
    doctor = project.run("doctor")
    found = {line.split()[1].rstrip(":"): line.split()[0] for line in doctor.stdout.splitlines() if "run.sh" in line}
    assert found == {"near": "ok", "on_path": "ok", "gone": "problem", "not_on_path": "problem"}, doctor.stdout
