"""Orders and commands: what an operator asks for, and what the answer says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from neo_daemons.control.client import ControlError, NoSupervisor

from .harness import FAST, PATIENCE_S, Child, Project, is_alive, kill, toy, until

pytestmark = pytest.mark.long


def test_an_invalid_configuration_does_not_prevent_a_stop(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    (project.root / "neo-daemons.toml").write_text("[[[")
    assert project.run("status").returncode == 0
    reload = project.run("reload")
    assert reload.returncode == 1
    assert "invalid TOML" in reload.stderr.splitlines()[0]
    assert reload.stderr.endswith("nothing was changed; the supervisor keeps its configuration\n")
    assert project.run("down").returncode == 0
    assert project.run("down").returncode == 2


def test_a_hold_keeps_a_daemon_down_also_under_the_next_supervisor(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    first = project.reaches("api", "ready")
    assert project.run("hold", "api").returncode == 0
    assert project.daemon("api").pid == first.pid
    kill(first.pid)
    project.reaches("api", "held")
    project.stop()
    project.serve()
    held = project.reaches("api", "held")
    assert held.pid is None
    refused = project.run("start", "api")
    assert (refused.returncode, "release it first" in refused.stderr) == (1, True)
    assert project.run("release", "api").returncode == 0
    project.reaches("api", "ready")


def test_dependants_start_after_and_stop_before_what_they_require(project: Project) -> None:
    project.configure(
        web=toy(requires=["store"]), store=toy(after=["base"]), base=toy(), late=toy(env={"U": "${daemons.web.url}"})
    )
    project.serve()
    for name in ("web", "store", "base", "late"):
        project.reaches(name, "ready")
    project.stop()
    lines = [json.loads(line) for line in project.state.journal.read_text().splitlines()]
    order = [(entry["event"], entry.get("daemon")) for entry in lines]
    for first, then in (("base", "store"), ("store", "web"), ("web", "late")):
        assert order.index(("ready", first)) < order.index(("running", then))
        assert order.index(("stopped", then)) < order.index(("stopping", first))


def test_a_manual_start_also_starts_required_daemons(project: Project) -> None:
    project.configure(web=toy(requires=["store"]), store=toy(requires=["base"]), base=toy(), other=toy())
    project.serve()
    for name in ("web", "store", "base", "other"):
        project.reaches(name, "ready")
        assert project.run("stop", name).returncode == 0
    assert project.run("start", "web").returncode == 0
    assert [project.daemon(name).state for name in ("web", "store", "base", "other")] == [*["ready"] * 3, "stopped"]


def test_what_waits_for_a_failed_daemon_names_the_cause_and_starts_when_that_is_mended(project: Project) -> None:
    broken = project.root / "broken"
    broken.touch()
    store = toy("write=no schema", f"fail-if={broken}", restart={**FAST, "limit": 2})
    project.configure(front=toy(requires=["web"]), web=toy(requires=["store"]), store=store)
    project.serve()
    why = f"requires store, which is parked: {project.reaches('store', 'parked').detail}"
    assert "exit code 7; last line: no schema" in why
    until(lambda: project.daemon("web").detail == why, "the reason")
    chain = f"requires web, which is unavailable: {why}"
    until(lambda: project.daemon("front").detail == chain, "the reason of the reason")
    assert project.daemon("web").state == "unavailable"
    assert why in project.run("why", "web").stdout
    up = project.run("up")
    assert up.returncode == 1
    assert why in up.stderr
    broken.unlink()
    assert project.run("start", "store").returncode == 0
    project.reaches("front", "ready")


def test_stop_and_start_by_name(project: Project) -> None:
    project.configure(api=toy(), other=toy())
    project.serve()
    first, other = project.reaches("api", "ready"), project.reaches("other", "ready")
    assert project.run("stop", "api").stdout.startswith("api: stopped")
    assert project.run("stop", "api").returncode == 0
    assert project.run("start", "api").returncode == 0
    second = project.daemon("api")
    assert second.pid != first.pid
    assert second.ports == first.ports
    restarted = project.run("restart", "api", "other")
    assert restarted.returncode == 0
    assert project.daemon("api").pid != second.pid
    assert project.daemon("other").pid != other.pid
    assert project.daemon("api").restarts == 0


def test_a_required_daemon_that_cannot_run_ends_serve_with_5(project: Project) -> None:
    project.configure(mlx={"model": "/nowhere/model"}, api=toy())
    supervisor = project.serve("--require", "mlx", wait=False)
    assert supervisor.wait(PATIENCE_S) == 5
    assert "a required daemon cannot run: mlx: unavailable" in project.output()


def test_up_and_down(project: Project) -> None:
    project.configure(api=toy())
    up = project.run("up")
    assert up.returncode == 0, up.stderr
    assert "api: ready" in up.stdout
    pid = project.daemon("api").pid
    again = project.run("up")
    assert (again.returncode, "already running" in again.stdout) == (0, True)
    assert project.daemon("api").pid == pid
    down = project.run("down")
    assert down.returncode == 0
    assert pid is not None
    assert not is_alive(pid)
    assert project.run("down").returncode == 0
    with pytest.raises(NoSupervisor):
        project.client.status()


def test_up_starts_what_is_named_and_what_that_requires(project: Project) -> None:
    project.configure(
        db=toy(groups=["storage"], enabled=False),
        api=toy(requires=["db"]),
        cache=toy(groups=["storage"]),
        other=toy(),
        seldom=toy("quiet", start="on-demand", idle_stop_s=600),
    )
    up = project.run("up", "api")
    assert (up.returncode, "other" in up.stdout) == (0, False), up.stderr
    assert {daemon.name: daemon.ready for daemon in project.client.status().daemons} == {
        "db": True,
        "api": True,
        "cache": False,
        "other": False,
        "seldom": False,
    }
    assert project.daemon("seldom").state == "idle"
    assert project.daemon("other").detail == "left out when the supervisor was started"
    api = project.daemon("api").pid
    assert project.run("reload").returncode == 0
    again = project.run("up", "@storage")
    assert again.returncode == 0, again.stderr
    assert project.daemon("cache").ready
    assert (project.daemon("api").pid, project.daemon("other").state) == (api, "stopped")
    assert project.run("stop", "@storage").returncode == 0
    assert [daemon.name for daemon in project.client.status().daemons if daemon.pid is not None] == ["api"]
    for words, said in (
        (("up", "@storge"), "unknown group '@storge'; configured groups: @storage; did you mean '@storage'?"),
        (
            ("up", "othre"),
            "unknown daemon 'othre'; configured daemons: api, cache, db, other, seldom; did you mean 'other'?",
        ),
        (("start", "@storge"), "unknown group '@storge'"),
    ):
        result = project.run(*words)
        assert (result.returncode, said in result.stderr) == (2, True), result.stderr
    assert project.run("down").returncode == 0


def test_up_reports_what_did_not_become_ready(project: Project) -> None:
    project.configure(bad=toy("write=no config", "exit=2", restart=FAST), api=toy())
    up = project.run("up")
    assert up.returncode == 1
    assert "bad: " in up.stderr
    assert "no config" in up.stderr
    assert project.daemon("api").ready
    assert project.run("down").returncode == 0


def test_commands_without_a_supervisor_say_so_with_3(project: Project) -> None:
    project.configure(api=toy())
    for command in (["status"], ["status", "--json"], ["why", "api"], ["start", "api"], ["reload"], ["events", "-f"]):
        result = project.run(*command)
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr == (
            f"neo-daemons: no supervisor is running in {project.state.path}; start one: neo-daemons up\n"
        )


def test_commands_about_an_unknown_daemon_name_the_known_ones(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    for command in (["why", "apj"], ["start", "apj"], ["logs", "apj"]):
        result = project.run(*command)
        assert result.returncode == 1
        assert "unknown daemon 'apj'; configured daemons: api" in result.stderr
    with pytest.raises(ControlError):
        project.client.why("../../status")


def test_logs_and_events_can_be_followed_and_read_without_a_supervisor(project: Project) -> None:
    project.configure(api=toy("write=first line"), silent={"command": ["sleep", "600"]})
    project.serve()
    project.reaches("api", "ready")
    followed = project.client.logs("api", 10, follow=True)
    assert next(followed) == "first line\n"
    silent = project.run("logs", "silent")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "neo-daemons: the log of silent is empty\n")
    happened = project.client.follow_events(100, "api")
    assert next(happened).event == "starting"
    pid = project.daemon("api").pid
    kill(pid)
    assert next(entry for entry in happened if entry.event == "exit").pid == pid
    assert next(followed) == "first line\n"
    project.back("api", pid)
    project.stop()
    assert project.run("logs", "api", "-n", "1").stdout == "first line\n"
    assert "supervisor-stopped" in project.run("events", "-n", "1").stdout


def test_the_logs_of_several_are_merged_and_followed(project: Project) -> None:
    project.configure(
        api=toy("write=2026-01-02 10:00:00 late", groups=["web"]),
        db=toy("write=2026-01-01 10:00:00 early"),
        silent={"command": ["sleep", "600"]},
    )
    project.serve()
    for name in ("api", "db", "silent"):
        project.reaches(name, "ready")
    early, late = "db     | 2026-01-01 10:00:00 early\n", "api    | 2026-01-02 10:00:00 late\n"
    assert project.run("logs").stdout == early + late
    assert project.run("logs", "-n", "1", "api", "silent").stdout == late
    assert project.run("logs", "@web").stdout == "2026-01-02 10:00:00 late\n"
    command = [sys.executable, "-m", "neo_daemons", "logs", "-f"]
    with Child(command, cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert [follower.stdout.readline() for _ in range(2)] == [early, late]
        kill(project.daemon("db").pid)
        assert follower.stdout.readline() == early
        project.stop()
        assert (follower.wait(PATIENCE_S), follower.stdout.read()) == (0, "")
    assert project.run("logs", "-n", "1").stdout == early + late
    assert project.run("logs", "-f").returncode == 3


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_of_another_machine_affects_only_its_daemon(project: Project, host: str) -> None:
    project.configure(api=toy(host=host), other=toy())
    project.serve()
    project.reaches("other", "ready")
    failed = project.reaches("api", "backoff", "parked")
    assert host in str(failed.detail)
    assert f"{host}:0" not in str(failed.detail)
    assert project.run("doctor").returncode == 0


def test_an_operators_restart_of_a_held_daemon_restarts_it(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    first = project.reaches("api", "ready")
    assert "api: ready, on hold, pid" in project.run("hold", "api").stdout
    assert project.run("restart", "api").returncode == 0
    assert project.daemon("api").pid != first.pid
    assert project.daemon("api").held


def test_a_daemon_that_was_stopped_on_request_says_who_asked_and_not_which_signal_ended_it(project: Project) -> None:
    """It read "stopped, killed by SIGTERM"."""
    project.configure(api=toy(), bare={"command": ["sleep", "600"]})
    project.serve()
    project.reaches("api", "ready")
    assert project.reaches("bare", "ready").detail == "started (no readiness probe)"
    assert project.run("stop", "api", "bare").stdout == "".join(
        f"{name}: stopped, stop requested by a user\n" for name in ("api", "bare")
    )
    project.run("start", "api")
    project.run("hold", "api")
    assert project.run("stop", "api").stdout == "api: stopped, on hold, stop requested by a user\n"
    assert ("exit", "killed by SIGTERM") in project.events("bare")


def test_a_deleted_state_directory_does_not_prevent_a_stop(project: Project) -> None:
    project.configure(api=toy(stop={"grace_s": 1.0}))
    supervisor = project.serve()
    pid = project.reaches("api", "ready").pid
    shutil.rmtree(project.state.path)
    supervisor.terminate()
    assert supervisor.wait(PATIENCE_S) == 0
    assert pid is not None
    assert not is_alive(pid)


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["why", "api"], ["logs", "api"], ["doctor"]])
def test_an_unwritable_output_is_one_clear_error(project: Project, command: list[str]) -> None:
    project.configure(api=toy("write=x"))
    project.serve()
    project.reaches("api", "ready")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "neo_daemons", *command],
            cwd=project.root,
            env=project.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == "neo-daemons: No space left on device: standard output or the working directory\n"


def test_details_are_shown_below_a_narrow_table(project: Project) -> None:
    project.configure(api=toy("write=x"))
    project.serve()
    project.reaches("api", "ready")
    from io import StringIO

    from rich.console import Console

    from neo_daemons.cli import display

    output = StringIO()
    Console(file=output, width=80).print(display.table(project.client.status(), 80))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert len(lines) == 3
    assert lines[2].startswith("api: ready after")


def test_a_manual_start_brings_back_a_daemon_that_is_being_stopped(project: Project) -> None:
    project.configure(api=toy("ignore-term", stop={"grace_s": 1.0}), user=toy(requires=["api"]))
    project.serve()
    project.reaches("user", "ready")
    project.client.order("api", "stop")
    project.client.order("user", "restart")
    project.reaches("user", "ready")
    assert project.daemon("api").ready
