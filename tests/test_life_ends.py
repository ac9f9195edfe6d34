"""Ends: a daemon that exits, is stopped or is killed leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from neo_daemons.records import Directory
from neo_daemons.supervision.platform import MARK_VARIABLE, Mark

from .harness import FAST, PATIENCE_S, Child, Project, is_alive, kill, toy, until

LIVE = {"type": "http", "interval_s": 0.1, "timeout_s": 1.5, "failures": 2}
"""Kills a hung daemon soon, but not one that is slow because the machine is."""


def told_by_reap(project: Project) -> list[str]:
    """The output of `reap` about this project; it also lists leftovers of other tests."""
    return [line for line in project.run("reap").stdout.splitlines() if str(project.root) in line]


def written(pids: Path) -> list[int]:
    """The pids in a file that a toy has opened, and maybe not yet written to."""
    return [int(pid) for pid in pids.read_text().split()] if pids.exists() else []


def test_a_stop_leaves_no_process_port_or_socket_and_keeps_the_log(project: Project) -> None:
    project.configure(api=toy("write=hello"), quiet=toy("quiet"))
    project.serve()
    api, quiet = project.reaches("api", "ready"), project.reaches("quiet", "ready")
    project.stop()
    assert api.pid is not None
    assert quiet.pid is not None
    assert not is_alive(api.pid)
    assert not is_alive(quiet.pid)
    with socket.create_server(("127.0.0.1", api.ports["main"])):
        pass
    assert not [path for path in project.root.rglob("*") if path.is_socket()]
    assert not list(project.state.daemons.glob("*.json"))
    assert not project.state.record.exists()
    assert "hello" in project.state.daemon_log("api").read_text()


def test_a_killed_daemon_comes_back_and_why_and_events_tell_the_story(project: Project) -> None:
    project.configure(api=toy("write=last words\n\n"))  # some end with empty lines, which tell nothing
    project.serve()
    first = project.reaches("api", "ready")
    kill(first.pid)
    second = project.back("api", first.pid)
    assert second.restarts == 1
    assert second.ports == first.ports
    assert second.last_exit is not None
    assert (second.last_exit.signal, second.last_exit.pid) == ("SIGKILL", first.pid)
    events = project.events("api")
    assert ("exit", "killed by SIGKILL") in events
    assert ("backoff", "killed by SIGKILL; last line: last words") in events
    told = project.run("why", "api")
    assert told.returncode == 0
    assert f"last exit: pid {first.pid}, killed by SIGKILL" in told.stdout
    assert "last words" in told.stdout


def test_an_exit_with_0_at_once_is_restarted_then_parked_with_its_first_cause(project: Project) -> None:
    project.configure(api=toy("write=port 1 is taken", "exit=0", restart={**FAST, "limit": 3}))
    project.serve()
    parked = project.reaches("api", "parked")
    assert parked.restarts == 3
    assert (
        parked.detail == "restart limit reached (3 within 600 s); first cause: exit code 0; last line: port 1 is taken"
    )
    assert project.run("start", "api").returncode == 1
    assert project.client.status().supervisor.pid


def test_a_daemon_that_ignores_sigterm_is_killed_after_its_grace(project: Project) -> None:
    project.configure(api=toy("ignore-term", stop={"grace_s": 0.2}))
    project.serve()
    pid = project.reaches("api", "ready").pid
    assert project.run("stop", "api").returncode == 0
    assert pid is not None
    assert not is_alive(pid)
    assert ("killed", "still there 0.2 s after SIGTERM: SIGKILL") in project.events("api")
    forced = "stop requested by a user; it did not exit in time and was killed"
    assert project.daemon("api").detail == forced


def test_a_second_sigint_skips_the_grace_period(project: Project) -> None:
    project.configure(api=toy("ignore-term", stop={"grace_s": 3000.0}))
    supervisor = project.serve()
    project.reaches("api", "ready")
    supervisor.send_signal(signal.SIGINT)
    project.reaches("api", "stopping")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    "how",
    [("fork",), ("fork", "scrub"), ("fork", "linger"), ("fork", "linger", "scrub")],
    ids=["forks", "forks and loses its mark", "is slow to fork", "is slow to fork and loses its mark"],
)
def test_a_daemon_that_double_forks_leaves_nothing_behind(project: Project, how: tuple[str, ...]) -> None:
    pids = project.root / "pids"
    project.configure(api=toy(*how, f"pidfile={pids}", restart=FAST))
    project.serve()
    project.reaches("api", "ready")
    until(lambda: project.daemon("api").pid in written(pids), "what was forked to be the daemon")
    followed = project.daemon("api")
    assert followed.restarts == 0
    kill(followed.pid)
    project.back("api", followed.pid)
    project.stop()
    assert len(written(pids)) == 2
    assert not any(map(is_alive, written(pids)))


def test_a_launcher_without_a_probe_is_followed(project: Project) -> None:
    pids = project.root / "pids"
    project.configure(api={**toy("fork", f"pidfile={pids}"), "ready": []})
    project.serve()
    until(lambda: any(event == "followed" for event, _ in project.events("api")), "the launcher to be seen through")
    until(lambda: project.daemon("api").pid in written(pids), "the daemon itself")
    assert project.daemon("api").state == "ready"
    assert project.daemon("api").restarts == 0


@pytest.mark.parametrize("child", ["child", "stubborn-child"])
@pytest.mark.parametrize("end", ["stop", "crash"])
def test_strays_in_sessions_of_their_own_end_with_their_daemon(project: Project, child: str, end: str) -> None:
    project.configure(api=toy(child, stop={"grace_s": 0.3}))
    project.serve()
    first = project.reaches("api", "ready")
    strays = [pid for pid in project.left() if pid != first.pid]
    assert len(strays) == 1
    if end == "stop":
        project.run("stop", "api")
    else:
        kill(first.pid)
        project.back("api", first.pid)
    assert not is_alive(strays[0])


def test_a_stopped_process_is_degraded_then_replaced(project: Project) -> None:
    project.configure(api=toy(live=LIVE))
    project.serve()
    first = project.reaches("api", "ready")
    kill(first.pid, signal.SIGSTOP)
    second = project.back("api", first.pid)
    assert first.pid is not None
    assert not is_alive(first.pid)
    assert second.restarts == 1
    events = [event for event, _ in project.events("api")]
    assert "degraded" in events
    assert any("2 consecutive failures" in str(detail) for _, detail in project.events("api"))


def test_a_daemon_that_does_not_restart_stays_stopped(project: Project) -> None:
    late = "import os, time; print('quiet and ready', flush=True); time.sleep(0.5); os._exit(3)"
    never = {**toy("quiet", restart="never"), "command": [sys.executable, "-c", late]}
    project.configure(once=toy("quiet", "exit=0", restart="on-failure"), never=never)
    project.serve()
    for name in ("once", "never"):
        assert project.reaches(name, "stopped").restarts == 0


def test_a_daemon_that_never_restarts_and_could_not_start_is_parked_with_its_cause(project: Project) -> None:
    """Its state was `stopped`, and `up` succeeded."""
    project.configure(
        missing={"command": ["./no-such-program"], "restart": "never"},
        deaf=toy("mute", start_grace_s=0.1, restart="never", ready={"type": "http", "timeout_s": 0.1}),
        broken=toy("quiet", "exit=4", restart="never"),
        unprobed={"command": [sys.executable, "-c", "raise SystemExit(5)"], "restart": "never"},
        done=toy("quiet", "exit=0", restart="never"),
    )
    up = project.run("up")
    try:
        assert up.returncode == 1
        causes = {"missing": "cannot start missing", "deaf": "not ready after 0.1 s"}
        for name, cause in (causes | {"broken": "exit code 4", "unprobed": "exit code 5"}).items():
            found = project.daemon(name)
            assert (found.state, found.restarts) == ("parked", 0)
            assert str(found.detail).startswith(cause)
            assert project.client.why(name).next_try_s is None
            assert cause in up.stderr
        assert project.daemon("done").state == "stopped"
        assert "done" not in up.stderr
    finally:
        project.run("down")


def test_a_recycled_daemon_is_replaced_unless_a_client_inhibits_it(project: Project) -> None:
    live = {"type": "http", "interval_s": 0.05}
    project.configure(old=toy(live=live, max_runtime_s=0.3), fat=toy("eat=60", live=live, max_rss_bytes=40_000_000))
    project.serve()
    with project.client.lease("a test", inhibit="*"):
        old, fat = project.reaches("old", "ready"), project.reaches("fat", "ready")
        until(lambda: (project.daemon("old").uptime_s or 0) > 0.6, "the age of 0.6 s")
        assert project.daemon("old").pid == old.pid
        assert project.daemon("fat").pid == fat.pid
    project.back("old", old.pid)
    project.back("fat", fat.pid)
    assert any("max_runtime_s is 0.3" in str(detail) for _, detail in project.events("old"))
    assert any("max_rss_bytes is 40000000" in str(detail) for _, detail in project.events("fat"))
    assert project.daemon("old").state != "parked"


def test_reap_ends_what_a_killed_supervisor_left_and_nothing_else(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    pid = project.reaches("api", "ready").pid
    assert told_by_reap(project) == []
    project.kill_supervisor()
    doctor = project.run("doctor")
    assert doctor.returncode == 1
    assert f"pid {pid}" in doctor.stdout
    innocent = {
        **os.environ,
        MARK_VARIABLE: str(Mark("0" * 32, "api", Directory(str(project.root / "elsewhere"), 1, 2))),
    }
    sleep = [
        sys.executable,
        "-IS",
        "-c",
        "import time; time.sleep(600)",
    ]  # macOS hides the environment of its own sleep
    with Child(sleep, env=innocent) as bystander:
        try:
            reaped = project.run("reap")
            assert f"stopped api, pid {pid}" in reaped.stdout
            assert f"kept api, pid {bystander.pid}" in reaped.stdout
            assert bystander.poll() is None
        finally:
            bystander.kill()
    assert pid is not None
    assert not is_alive(pid)
    assert project.run("doctor").returncode == 0


def test_no_order_is_taken_while_the_supervisor_stops(project: Project) -> None:
    project.configure(slow=toy("ignore-term", stop={"grace_s": 3000.0}), quick=toy("quiet"))
    supervisor = project.serve()
    project.reaches("slow", "ready")
    project.reaches("quick", "ready")
    supervisor.send_signal(signal.SIGTERM)
    project.reaches("quick", "stopped")
    for command in (["start", "quick"], ["restart", "slow"], ["reload"]):
        refused = project.run(*command)
        assert (refused.returncode, "the supervisor is stopping" in refused.stderr) == (1, True)
    supervisor.send_signal(signal.SIGTERM)  # the second one cuts the grace
    assert supervisor.wait(PATIENCE_S) == 0


def test_reap_leaves_the_provisioning_of_a_running_supervisor_alone(project: Project) -> None:
    state = project.state
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    token = json.loads(state.record.read_text())["token"]
    here = Directory.of(state.path)
    assert here is not None
    env = {**os.environ, MARK_VARIABLE: str(Mark(token, "api", here))}
    with Child(["sleep", "600"], env=env) as step:
        assert told_by_reap(project) == []
        assert step.poll() is None
        step.kill()


def test_an_embedded_orchestrator_obeys_a_shutdown_and_its_program_goes_on(project: Project) -> None:
    project.configure(api=toy())
    script = (
        "import asyncio\nfrom neo_daemons import AgentOrchestrator\nfrom neo_daemons.config import load\n"
        "async def main():\n"
        "    async with AgentOrchestrator(load()) as orchestrator:\n"
        "        assert await orchestrator.wait_ready(30)\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.to_thread(input)\n"
        "asyncio.run(main())"
    )
    with Child(
        [sys.executable, "-c", script],
        cwd=project.root,
        env=project.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        pid = project.daemon("api").pid
        assert project.run("down").returncode == 0
        assert pid is not None
        assert not is_alive(pid)
        assert program.poll() is None
        program.communicate("\n", timeout=PATIENCE_S)
    assert program.returncode == 0


def test_nohup_is_respected(project: Project) -> None:
    project.configure(api=toy())
    supervisor = project.serve(prefix=("nohup",))
    project.reaches("api", "ready")
    (project.root / "neo-daemons.toml").write_text("[[[")
    supervisor.send_signal(signal.SIGHUP)
    # By the time that this is answered the signal has been met; it would have left its own refusal in the journal.
    assert project.run("reload").returncode == 1
    assert {event for event, _ in project.events()}.isdisjoint({"supervisor-stopping", "reload-refused"})


@pytest.mark.linux("a supervisor that is the parent of all that its daemons leave")
def test_what_a_living_daemon_has_left_is_reaped(project: Project) -> None:
    leave = """
import os, sys, time
if os.fork() == 0:
    if os.fork() == 0:
        with open(sys.argv[1], "w") as file:
            file.write(str(os.getpid()))
    os._exit(0)
time.sleep(600)
"""
    file = project.root / "pid"
    project.configure(api={"command": [sys.executable, "-c", leave, str(file)]})
    project.serve()
    project.reaches("api", "ready")
    pid = until(lambda: file.exists() and file.read_text(), "an orphan")
    until(lambda: not Path(f"/proc/{pid}").exists(), "the orphan to be reaped")
    assert project.daemon("api").restarts == 0


def test_a_supervisor_that_was_started_with_sigchld_ignored_knows_how_daemons_exit(project: Project) -> None:
    ignore = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    project.configure(api={"command": [sys.executable, "-c", "raise SystemExit(3)"], "restart": "never"})
    project.serve(prefix=(sys.executable, "-c", ignore))
    assert (last := project.reaches("api", "parked", "stopped").last_exit) is not None
    assert last.code == 3
