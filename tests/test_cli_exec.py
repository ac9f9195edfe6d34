"""`exec`: a command with the daemons that it uses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from neo_daemons.control.client import Client

from .harness import PATIENCE_S, Project, toy, until

EXPORTS = {"exports": {"API_PORT": "${port}", "API_DATA": "${data_dir}"}, "data_dir": "./data"}
SAYS = "import os; print(os.environ['API_PORT'], os.environ['API_DATA'])"
WAITS = """
import os, signal, sys
def told(signum, frame):
    os.write(1, signal.Signals(signum).name.encode() + bytes([10]))
    os._exit(11)
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(each, told)
print("ready", os.getpid(), flush=True)
sys.stdin.read()
"""


def execute(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """Begin `exec`."""
    command = [sys.executable, "-m", "neo_daemons", "exec", *arguments]
    return subprocess.Popen(
        command, cwd=project.root, env=project.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_without_a_supervisor_one_is_there_for_the_time_of_the_command(project: Project) -> None:
    project.configure(api=toy(**EXPORTS), other=toy())
    done = project.run("exec", "--with", "api", "--", sys.executable, "-c", SAYS)
    port, data = done.stdout.split()
    assert (done.returncode, port.isdigit(), data) == (0, True, str(project.root / "data"))
    assert project.run("status").returncode == 3
    assert not project.left()
    assert '"other"' not in project.state.journal.read_text()


def test_with_a_supervisor_it_holds_a_lease_on_what_it_uses(project: Project) -> None:
    project.configure(api=toy(start="on-demand", idle_stop_s=0.2, **EXPORTS), other=toy(start="on-demand"))
    supervisor = project.serve()
    with execute(project, "--with", "api", "--", sys.executable, "-c", WAITS) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("ready")
        (holder,) = project.daemon("api").holders
        assert (holder.pid, holder.name.startswith("exec ")) == (running.pid, True)
        assert project.daemon("other").state == "idle"
        running.communicate("")
    project.reaches("api", "idle")
    assert supervisor.poll() is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command_and_its_exit_code_comes_back(project: Project, signum: signal.Signals) -> None:
    project.configure(api=toy())
    with execute(project, "--", sys.executable, "-c", WAITS) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("ready")
        running.send_signal(signum)
        assert running.stdout.readline() == f"{signum.name}\n"
        assert running.wait(PATIENCE_S) == 11


def test_the_exit_codes_are_those_of_a_shell(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    plain = project.root / "plain.txt"
    plain.write_text("text")
    for words, code in (
        ([sys.executable, "-c", "raise SystemExit(3)"], 3),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 137),
        (["no-such-command"], 127),
        ([str(plain)], 126),
    ):
        assert project.run("exec", "--", *words).returncode == code


def test_an_isolated_command_has_daemons_and_data_of_its_own(project: Project) -> None:
    project.configure(api=toy(**EXPORTS))
    project.serve()
    own = project.reaches("api", "ready")
    done = project.run("exec", "--isolated", "--", sys.executable, "-c", SAYS)
    port, data = done.stdout.split()
    assert done.returncode == 0
    assert int(port) not in own.ports.values()
    assert Path(data) != project.root / "data"
    assert not Path(data).exists()
    assert project.daemon("api").pid == own.pid


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("isolated", [False, True])
def test_when_it_is_killed_nothing_is_left(project: Project, isolated: bool) -> None:
    project.configure(api=toy(**EXPORTS))
    arguments = ["--isolated"] if isolated else []
    with execute(project, *arguments, "--", sys.executable, "-c", f"{SAYS}\n{WAITS}") as running:
        assert running.stdout is not None
        port = int(running.stdout.readline().split()[0])
        pid = int(running.stdout.readline().split()[1])
        running.kill()
        running.wait()
        until(lambda: not _answers(port), "the daemon is gone")
        os.kill(pid, signal.SIGKILL)
    until(lambda: not project.left(), "nothing is left")


def test_a_daemon_that_cannot_run_is_named_with_its_log(project: Project) -> None:
    project.configure(api=toy("write=no more room", "exit=3"))
    done = project.run("exec", "--", sys.executable, "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (1, "")
    assert "api is not available" in done.stderr
    assert "no more room" in done.stderr
    assert not project.left()


@pytest.mark.long
def test_the_lease_is_taken_again_when_the_supervisor_is_replaced(project: Project) -> None:
    project.configure(api=toy(start="on-demand", idle_stop_s=PATIENCE_S))
    project.serve()
    with execute(project, "--", sys.executable, "-c", WAITS) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("ready")
        pid = project.daemon("api").pid
        project.kill_supervisor()
        project.serve()
        until(lambda: len(project.daemon("api").holders) == 1, "the lease")
        assert (project.daemon("api").pid, project.daemon("api").idle_stop_at) == (pid, None)
        running.communicate("")


@pytest.mark.long
def test_up_replaces_a_supervisor_that_would_end_with_the_command(project: Project) -> None:
    project.configure(api=toy(), other=toy())
    with execute(project, "--with", "api", "--", sys.executable, "-c", WAITS) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("ready")
        pid = project.daemon("api").pid
        assert project.run("up").returncode == 0
        assert (project.daemon("api").pid, project.daemon("other").state) == (pid, "ready")
        running.communicate("")
    assert project.daemon("api").pid == pid
    assert not Client(project.state.path).status().supervisor.ends_unused
    project.run("down")


@pytest.mark.long
def test_serve_replaces_it_as_well_and_the_command_keeps_its_lease(project: Project) -> None:
    project.configure(api=toy(start="on-demand"), other=toy())
    with execute(project, "--with", "api", "--", sys.executable, "-c", WAITS) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("ready")
        pid = project.daemon("api").pid
        project.serve()
        until(lambda: len(project.daemon("api").holders) == 1 or None, "the lease")
        assert (project.reaches("other", "ready").ready, project.daemon("api").pid) == (True, pid)
        again = project.run("serve")
        assert (again.returncode, "already" in again.stderr) == (4, True)
        running.communicate("")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "a command is missing"),
        (("--with", "nobody", "--", "true"), "unknown daemon; configured daemons: api"),
    ],
)
def test_wrong_use_is_one_error(project: Project, arguments: tuple[str, ...], said: str) -> None:
    project.configure(api=toy())
    done = project.run("exec", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
