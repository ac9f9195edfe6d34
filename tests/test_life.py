"""The life of daemons under the real `serve`, with toy daemons that misbehave on request."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from neo_daemons import records
from neo_daemons.control.client import ControlError, NoSupervisor, Unreachable
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, Directory
from neo_daemons.supervision.platform import MARK_VARIABLE, Mark, current_platform

from .harness import PATIENCE_S, TOY, Child, Project, free_port, in_namespace, is_alive, toy, until

FAST = {"base_s": 0.01, "ceiling_s": 0.05, "jitter": 0.0}


def kill(pid: int | None, signum: int = signal.SIGKILL) -> None:
    assert pid is not None
    os.kill(pid, signum)


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


def test_survivors_of_a_killed_supervisor_are_adopted_and_watched_as_before(project: Project) -> None:
    project.configure(api=toy(), quiet=toy("quiet"))
    project.serve()
    before = {name: project.reaches(name, "ready") for name in ("api", "quiet")}
    project.kill_supervisor()
    project.serve()
    for name, was in before.items():
        now = project.reaches(name, "ready")
        assert (now.pid, now.adopted, now.restarts) == (was.pid, True, 0)
        assert now.uptime_s is not None
        assert was.uptime_s is not None
        assert now.uptime_s > was.uptime_s
    kill(before["api"].pid)
    after = project.back("api", before["api"].pid)
    assert not after.adopted
    # An adopted process is its new parent's to reap; the kernel tells us how it ended once that has been done.
    until(lambda: str(project.daemon("api").last_exit).count("SIGKILL"), "how it ended")


def test_what_a_daemon_writes_between_two_supervisors_is_kept(project: Project) -> None:
    project.configure(api=toy("flood=20000"))
    project.serve()
    until(lambda: project.state.daemon_log("api").exists(), "the log")
    project.kill_supervisor()
    log = project.state.daemon_log("api")
    until(lambda: log.read_text().endswith("line 000019999\n"), "the last line")
    project.serve()
    project.reaches("api", "ready")
    assert log.read_text().splitlines() == [f"line {number:09}" for number in range(20000)]


def test_takeover_leaves_the_daemons_alone(project: Project) -> None:
    project.configure(api=toy(), quiet=toy("quiet"))
    old = project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("api", "quiet")}
    project.serve("--takeover")
    assert {name: project.reaches(name, "ready").pid for name in before} == before
    assert old.wait(PATIENCE_S) == 0
    assert [event for event, _ in project.events() if event == "exit"] == []


def test_detach_on_exit_leaves_the_daemons_for_adoption(project: Project) -> None:
    project.configure(api=toy())
    project.serve("--detach-on-exit")
    pid = project.reaches("api", "ready").pid
    project.stop()
    assert pid is not None
    assert is_alive(pid)
    project.serve()
    assert project.reaches("api", "ready").pid == pid
    project.stop()
    assert not is_alive(pid)


def test_a_second_serve_is_refused_names_the_first_and_changes_nothing(project: Project) -> None:
    project.configure(api=toy())
    first = project.serve()
    pid = project.reaches("api", "ready").pid
    second = project.run("serve")
    assert second.returncode == 4
    assert f"already supervised by pid {first.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert project.daemon("api").pid == pid
    assert project.client.status().supervisor.pid == first.pid


def test_a_stranger_on_a_fixed_port_is_named_and_left_alone(project: Project) -> None:
    port = free_port()
    with Child([*TOY, f"port={port}"]) as stranger:
        try:
            until(lambda: not current_platform().port_is_free("127.0.0.1", port), "the stranger to listen")
            project.configure(api=toy(port=port), other=toy())
            project.serve()
            api = project.reaches("api", "parked")
            assert api.detail is not None
            assert f"port {port} is held by pid {stranger.pid}" in api.detail
            assert "set daemons.api.port" in api.detail
            assert project.reaches("other", "ready")
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()
    assert project.run("start", "api").returncode == 0
    assert project.daemon("api").ports == {"main": port}


def test_a_taken_port_that_is_not_fixed_is_left_for_another(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    first = project.reaches("api", "ready")
    assert project.run("stop", "api").returncode == 0
    with socket.create_server(("127.0.0.1", first.ports["main"])):
        assert project.run("start", "api").returncode == 0
        second = project.daemon("api")
    assert second.ports != first.ports
    assert any(event == "port-taken" for event, _ in project.events("api"))


def test_a_stranger_on_another_address_of_the_same_port_is_ignored(project: Project) -> None:
    """It was mistaken for the process that answers, and the healthy daemon was repeatedly killed for that."""
    port = free_port()
    with Child([*TOY, f"port={port}", "host=127.0.0.2"]) as stranger:
        try:
            until(lambda: not current_platform().port_is_free("127.0.0.2", port), "the stranger to listen")
            project.configure(api=toy(port=port))
            project.serve()
            assert project.reaches("api", "ready", "parked", "backoff", "stopping").ready
            assert project.daemon("api").restarts == 0
            assert project.client.why("api").port_holders == {str(port): "this daemon"}
        finally:
            stranger.kill()


@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "its supervisor was killed"])
def test_two_state_directories_never_run_two_daemons_on_one_data_directory(
    project: Project, tmp_path: Path, supervised: bool
) -> None:
    data = tmp_path / "data"
    project.configure(api=toy(data_dir=str(data)))
    project.serve()
    first = project.reaches("api", "ready")
    if not supervised:
        project.kill_supervisor()
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other")
    try:
        other.configure(api=toy(data_dir=str(tmp_path / "link")))
        other.serve()
        refused = other.reaches("api", "parked")
        assert refused.detail is not None
        assert f"data directory {data} is in use by daemon api of {project.state.path}" in refused.detail
        assert first.pid is not None
        assert is_alive(first.pid)
    finally:
        assert other.close() == []
    if not supervised:
        project.serve()
        assert project.reaches("api", "ready").pid == first.pid


def forge(project: Project, **changes: object) -> DaemonRecord:
    fields: dict[str, object] = {
        "name": "api",
        "token": "0" * 32,
        "fingerprint": "0" * 16,
        "command": ("true",),
        "ports": {},
        "url": None,
        "data_dir": None,
        "log_path": "",
        "spawned_at": 0.0,
        "log_offset": 0,
    }
    project.state.create()
    record = DaemonRecord(directory=Directory.of(project.state.path), **{**fields, **changes})  # type: ignore[arg-type]
    write_struct(project.state.daemon_record("api"), record)
    return record


@pytest.mark.parametrize("identity", ["of another process", "its own"])
def test_a_forged_record_that_names_an_innocent_process_harms_no_process(project: Project, identity: str) -> None:
    platform = current_platform()
    with Child(["sleep", "600"], start_new_session=True) as innocent:
        try:
            known = platform.own_identity()
            if identity == "its own":
                process = platform._open(innocent.pid)  # type: ignore[attr-defined]
                known = process.identity
                process.close()
            forge(project, pid=innocent.pid, identity=known)
            project.configure(api=toy())
            project.serve()
            assert project.reaches("api", "ready").pid != innocent.pid
            told = [detail for event, detail in project.events("api") if event == "record-foreign"]
            assert told
            assert f"pid {innocent.pid}" in str(told[0])
            project.stop()
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_lock_held_by_the_daemon_does_not_prove_that_a_stranger_is_the_daemon(project: Project) -> None:
    """Found by chaos: a record with a stranger's full identity, while the real daemon ran, had the stranger killed."""
    project.configure(api=toy())
    project.serve()
    true = project.reaches("api", "ready").pid
    project.kill_supervisor()
    platform = current_platform()
    path = project.state.daemon_record("api")
    record = records.read(path, DaemonRecord)
    assert record is not None
    with Child(["sleep", "600"], start_new_session=True) as innocent:
        try:
            process = platform._open(innocent.pid)  # type: ignore[attr-defined]
            write_struct(path, msgspec.structs.replace(record, pid=innocent.pid, identity=process.identity))
            process.close()
            project.serve()
            found = project.reaches("api", "ready")
            assert found.pid != innocent.pid
            told = [str(detail) for event, detail in project.events("api") if event == "record-foreign"]
            assert any(f"pid {innocent.pid}" in detail for detail in told)
            project.stop()
            assert innocent.poll() is None
            assert true is not None
            assert not is_alive(true)
        finally:
            innocent.kill()


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": 1, "name": "api", "tok', b"\xff\xfe\x00", b"12345", b'{"format": 99}', b"[" * 5000],
    ids=["empty", "cut off", "binary", "a bare pid", "another format", "deeply nested"],
)
def test_a_damaged_record_is_moved_aside_and_reported(project: Project, content: bytes) -> None:
    project.state.create()
    project.state.daemon_record("api").write_bytes(content)
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    assert any(event == "record-damaged" for event, _ in project.events("api"))
    aside = list(project.state.daemons.glob("api.json.damaged-*"))
    assert [path.read_bytes() for path in aside] == [content]


def test_a_crash_between_intent_and_fact_leads_to_adoption_by_the_mark(project: Project) -> None:
    project.configure(api=toy("quiet", restart={"when": "always"}))
    project.serve()
    pid = project.reaches("api", "ready").pid
    project.kill_supervisor()
    path = project.state.daemon_record("api")
    record = json.loads(path.read_text())
    record["pid"] = record["identity"] = None
    path.write_text(json.dumps(record))
    project.serve()
    adopted = project.reaches("api", "ready")
    assert (adopted.pid, adopted.adopted) == (pid, True)


def test_an_exit_with_0_at_once_is_restarted_then_parked_with_its_first_cause(project: Project) -> None:
    project.configure(api=toy("write=port 1 is taken", "exit=0", restart={**FAST, "limit": 3}))
    project.serve()
    parked = project.reaches("api", "parked")
    assert parked.restarts == 3
    assert parked.detail == "3 restarts in 600 s; first cause: exit code 0; last line: port 1 is taken"
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
    until(lambda: project.daemon("api").pid == int(pids.read_text()), "what was forked to be the daemon")
    followed = project.daemon("api")
    assert followed.restarts == 0
    kill(followed.pid)
    project.back("api", followed.pid)
    project.stop()
    for pid in pids.read_text().split():
        assert not is_alive(int(pid))


def test_a_launcher_without_a_probe_is_followed(project: Project) -> None:
    pids = project.root / "pids"
    project.configure(api={**toy("fork", f"pidfile={pids}"), "ready": []})
    project.serve()
    until(lambda: any(event == "followed" for event, _ in project.events("api")), "the launcher to be seen through")
    until(lambda: pids.exists() and project.daemon("api").pid == int(pids.read_text()), "the daemon itself")
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


LIVE = {"type": "http", "interval_s": 0.1, "timeout_s": 1.5, "failures": 2}
"""Kills a hung daemon soon, but not one that is slow because the machine is."""


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


def test_one_failed_probe_is_no_reason_to_kill(project: Project) -> None:
    project.configure(api=toy(live={**LIVE, "failures": 1000}))
    project.serve()
    first = project.reaches("api", "ready")
    kill(first.pid, signal.SIGSTOP)
    project.reaches("api", "degraded")
    kill(first.pid, signal.SIGCONT)
    assert project.reaches("api", "ready").pid == first.pid


def test_a_daemon_that_answers_503_is_never_ready_and_parked_by_its_kill_budget(project: Project) -> None:
    project.configure(api=toy("status=503", start_grace_s=3.0, restart={**FAST, "kills": 2}))
    project.serve()
    seen = project.reaches("api", "running")
    assert not seen.ready
    parked = project.reaches("api", "parked")
    assert parked.detail is not None
    assert "restarted 2 times within an hour because its probes failed" in parked.detail
    assert "status 503" in parked.detail


def test_a_probe_that_never_returns_delays_no_other_daemon(project: Project) -> None:
    project.configure(mute=toy("mute", ready={"type": "http", "timeout_s": 600.0}), api=toy())
    project.serve()
    project.reaches("api", "ready")
    assert project.daemon("mute").state == "running"
    assert project.run("stop", "mute").returncode == 0
    assert project.daemon("mute").state == "stopped"


def test_a_daemon_that_hangs_is_not_adopted_as_healthy(project: Project) -> None:
    project.configure(api=toy(start_grace_s=2.0, live=LIVE))
    project.serve()
    first = project.reaches("api", "ready")
    project.kill_supervisor()
    kill(first.pid, signal.SIGSTOP)
    project.serve()
    project.back("api", first.pid)
    assert first.pid is not None
    assert not is_alive(first.pid)


def test_a_changed_definition_replaces_an_adopted_daemon_once(project: Project) -> None:
    project.configure(api=toy(), other=toy())
    project.serve()
    api, other = project.reaches("api", "ready"), project.reaches("other", "ready")
    project.kill_supervisor()
    project.configure(api=toy(env={"NEW": "1"}), other=toy())
    project.serve()
    assert project.back("api", api.pid).ports == api.ports
    assert project.reaches("other", "ready").pid == other.pid
    assert [event for event, _ in project.events() if event == "replaced"] == ["replaced"]


def test_reload_touches_only_what_changed_and_a_dry_run_nothing(project: Project) -> None:
    project.configure(a=toy(), b=toy(), c=toy(), gone=toy())
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("a", "b", "c", "gone")}
    project.configure(
        a=toy(), b=toy(env={"X": "1"}), c=toy(stop={"grace_s": 1.0}, restart="on-failure"), new=toy("quiet")
    )
    planned = project.run("reload", "--dry-run")
    assert {name: project.daemon(name).pid for name in before} == before
    done = project.run("reload")
    assert planned.stdout == done.stdout
    assert [line.split(":")[0].split() for line in done.stdout.splitlines()] == [
        ["keep", "a"],
        ["replace", "b"],
        ["apply", "c"],
        ["start", "new"],
        ["stop", "gone"],
    ]
    project.reaches("new", "ready")
    project.back("b", before["b"])
    assert project.daemon("a").pid == before["a"]
    assert project.daemon("c").pid == before["c"]
    assert [daemon.name for daemon in project.client.status().daemons] == ["a", "b", "c", "new"]
    assert before["gone"] is not None
    assert not is_alive(before["gone"])


def test_a_run_is_as_stable_as_the_reloaded_configuration_says(project: Project) -> None:
    project.configure(api=toy(restart={"stable_s": 600.0}))
    project.serve()
    first = project.reaches("api", "ready")
    kill(first.pid)
    project.back("api", first.pid)
    assert project.client.why("api").failures == 1
    project.configure(api=toy(restart={"stable_s": 0.01}))
    assert project.run("reload").stdout.startswith("apply")
    until(lambda: project.client.why("api").failures == 0, "what failed before is forgotten")


def test_a_reload_keeps_to_what_an_operator_has_ordered(project: Project) -> None:
    def configure(value: str) -> None:
        project.configure(
            wanted=toy("quiet", enabled=False, env={"X": value}),
            unwanted=toy("quiet", enabled=False, env={"X": value}),
            stopped=toy("quiet", env={"X": value}),
        )

    configure("1")
    project.serve()
    project.reaches("stopped", "ready")
    project.client.order("stopped", "stop", wait_s=PATIENCE_S)
    first = project.client.order("wanted", "start", wait_s=PATIENCE_S)
    assert first.ready
    configure("2")
    assert project.run("reload").returncode == 0
    project.back("wanted", first.pid)
    assert project.daemon("stopped").state == "stopped"
    assert project.daemon("unwanted").state == "stopped"


def test_an_external_daemon_is_observed_after_a_reload_while_it_is_enabled(project: Project) -> None:
    port = free_port()
    live = {"type": "http", "url": f"http://127.0.0.1:{port}", "interval_s": 0.05, "timeout_s": 1.0}
    external = {"external": f"http://127.0.0.1:{port}", "live": live}
    with Child([*TOY, f"port={port}"]) as theirs:
        try:
            project.configure(theirs=toy("quiet"))
            project.serve()
            project.reaches("theirs", "ready")
            project.client.order("theirs", "stop", wait_s=PATIENCE_S)
            for enabled in (True, False, True):
                project.configure(theirs={**external, "enabled": enabled})
                assert project.run("reload").returncode == 0
                if enabled:
                    until(lambda: project.daemon("theirs").ready, "the external daemon to be ready")
                else:
                    assert not project.daemon("theirs").ready
                    assert project.daemon("theirs").detail == "not enabled in the configuration"
        finally:
            theirs.kill()


def test_sighup_reloads_and_a_bad_configuration_changes_nothing(project: Project) -> None:
    project.configure(api=toy())
    supervisor = project.serve()
    pid = project.reaches("api", "ready").pid
    (project.root / "neo-daemons.toml").write_text("[daemons.api]\ncommand = 3\n")
    supervisor.send_signal(signal.SIGHUP)
    until(lambda: any(event == "reload-refused" for event, _ in project.events()), "the refusal")
    refused = project.run("reload")
    assert refused.returncode == 1
    assert "daemons.api.command = 3" in refused.stderr
    assert project.daemon("api").pid == pid
    project.configure(api=toy(), more=toy())
    supervisor.send_signal(signal.SIGHUP)
    until(lambda: len(project.client.status().daemons) == 2, "the new daemon")
    project.reaches("more", "ready")


def test_an_invalid_configuration_does_not_prevent_a_stop(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    (project.root / "neo-daemons.toml").write_text("[[[")
    assert project.run("status").returncode == 0
    assert project.run("reload").returncode == 1
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


def test_a_held_survivor_is_adopted(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    first = project.reaches("api", "ready")
    project.run("hold", "api")
    project.kill_supervisor()
    project.serve()
    assert project.reaches("api", "ready").pid == first.pid
    assert project.daemon("api").held


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


def test_a_daemon_waits_for_a_required_one_that_is_never_ready_and_says_so(project: Project) -> None:
    project.configure(web=toy(requires=["store"]), store=toy("exit=3", restart={**FAST, "limit": 2}))
    project.serve()
    project.reaches("store", "parked")
    until(lambda: project.daemon("web").detail == "waiting for store, which is parked (requires)", "the reason")
    assert project.daemon("web").state == "starting"
    assert project.run("up").returncode == 1
    assert project.run("stop", "web").returncode == 0


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


def test_a_daemon_that_does_not_restart_stays_stopped(project: Project) -> None:
    project.configure(once=toy("quiet", "exit=0", restart="on-failure"), never=toy("quiet", "exit=3", restart="never"))
    project.serve()
    for name in ("once", "never"):
        assert project.reaches(name, "stopped").restarts == 0


def test_a_daemon_that_never_restarts_and_could_not_start_is_parked_with_its_cause(project: Project) -> None:
    """Its state was `stopped`, and `up` succeeded."""
    project.configure(
        missing={"command": ["./no-such-program"], "restart": "never"},
        deaf=toy("mute", start_grace_s=0.1, restart="never", ready={"type": "http", "timeout_s": 0.1}),
    )
    up = project.run("up")
    try:
        assert up.returncode == 1
        for name, cause in (("missing", "cannot start missing"), ("deaf", "not ready after 0.1 s")):
            found = project.daemon(name)
            assert (found.state, found.restarts) == ("parked", 0)
            assert str(found.detail).startswith(cause)
            assert project.client.why(name).next_try_s is None
            assert cause in up.stderr
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


def test_leftovers_of_a_daemon_that_is_no_longer_configured_are_ended(project: Project) -> None:
    project.configure(api=toy(), gone=toy())
    project.serve()
    gone = project.reaches("gone", "ready")
    project.kill_supervisor()
    project.configure(api=toy())
    project.serve()
    assert gone.pid is not None
    until(lambda: not is_alive(gone.pid or 0), "the end of the orphan")
    until(lambda: not project.state.daemon_record("gone").exists(), "its record to be removed")


def test_an_external_daemon_is_observed_and_never_controlled(project: Project) -> None:
    port = free_port()
    live = {"type": "http", "url": f"http://127.0.0.1:{port}", "interval_s": 0.05, "timeout_s": 1.0}
    project.configure(theirs={"external": f"http://127.0.0.1:{port}", "live": live})
    project.serve()
    assert not project.reaches("theirs", "external").ready
    with Child([*TOY, f"port={port}"]) as theirs:
        try:
            until(lambda: project.daemon("theirs").ready, "the external daemon to be ready")
            for order in ("start", "stop", "restart", "hold"):
                refused = project.run(order, "theirs")
                assert (refused.returncode, "does not control it" in refused.stderr) == (1, True)
            project.stop()
            assert theirs.poll() is None
        finally:
            theirs.kill()


def test_what_is_not_installed_is_unavailable_with_reason_and_remedy_and_the_rest_starts(project: Project) -> None:
    project.configure(mlx={"model": "/nowhere/model"}, api=toy(), nope={"command": ["no-such-program"]})
    project.serve()
    project.reaches("api", "ready")
    missing = project.reaches("nope", "backoff", "parked")
    assert missing.detail == "cannot start nope: no-such-program not found on its PATH; install it or use its full path"
    mlx = project.reaches("mlx", "unavailable")
    assert mlx.detail
    assert mlx.remedy


def test_a_required_daemon_that_cannot_run_ends_serve_with_5(project: Project) -> None:
    project.configure(mlx={"model": "/nowhere/model"}, api=toy())
    supervisor = project.serve("--require", "mlx", wait=False)
    assert supervisor.wait(PATIENCE_S) == 5
    assert "required: mlx: unavailable" in project.output()


@pytest.mark.parametrize("probe", ["exec", "tcp", "file"])
def test_every_kind_of_probe_makes_ready(project: Project, probe: str) -> None:
    beacon = project.root / "beacon"
    ready = {
        "exec": {"type": "exec", "command": [sys.executable, "-IS", "-c", f"open({str(beacon)!r})"]},
        "tcp": {"type": "tcp"},
        "file": {"type": "file", "path": str(beacon)},
    }[probe]
    project.configure(api=toy(ready=ready))
    project.serve()
    if probe != "tcp":
        until(
            lambda: (
                "FileNotFound" in str(project.daemon("api").detail)
                or "No such file" in str(project.daemon("api").detail)
            ),
            "the probe's failure",
        )
        assert not project.daemon("api").ready
        beacon.touch()
    project.reaches("api", "ready")


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


def test_up_reports_what_did_not_become_ready(project: Project) -> None:
    project.configure(bad=toy("write=no config", "exit=2", restart=FAST), api=toy())
    up = project.run("up")
    assert up.returncode == 1
    assert "bad: " in up.stderr
    assert "no config" in up.stderr
    assert project.daemon("api").ready
    assert project.run("down").returncode == 0


def told_by_reap(project: Project) -> list[str]:
    """The output of `reap` about this project; it also lists leftovers of other tests."""
    return [line for line in project.run("reap").stdout.splitlines() if str(project.root) in line]


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
    with Child(["sleep", "600"], env=innocent) as bystander:
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
    project.configure(api=toy("write=first line"))
    project.serve()
    project.reaches("api", "ready")
    followed = project.client.logs("api", 10, follow=True)
    assert next(followed) == "first line\n"
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


def test_a_read_only_state_directory_is_one_clear_error(project: Project) -> None:
    project.configure(api=toy())
    state = project.root / "readonly"
    state.mkdir()
    mount = in_namespace(f"mount -t tmpfs -o ro tmpfs {state}")
    supervisor = project.serve("--state-dir", str(state), wait=False, prefix=mount)
    assert supervisor.wait(PATIENCE_S) == 2
    assert project.output().count("\n") == 1
    assert f"cannot use the state directory {state}: Read-only file system" in project.output()
    assert "--state-dir" in project.output()


def test_a_full_disk_starts_nothing_and_is_survived(project: Project) -> None:
    state = project.root / "small"
    state.mkdir()
    flag = project.root / "full"
    project.configure(api=toy("quiet", restart={**FAST, "limit": 1000}), slow=toy("quiet"))
    # Room for the state directory itself; what is left is filled before the daemons are started.
    mount = in_namespace(
        f"mount -t tmpfs -o size=64k tmpfs {state}; mkdir -p {state}/logs; head -c 45000 /dev/zero > {state}/ballast"
    )
    supervisor = project.serve("--state-dir", str(state), wait=False, prefix=mount)
    until(lambda: "No space left on device" in project.output(), "the report")
    assert not flag.exists()
    if supervisor.poll() is None:
        supervisor.terminate()
        assert supervisor.wait(PATIENCE_S) == 0
    else:
        assert supervisor.returncode in (1, 2)
    assert "Traceback" not in project.output()


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


@pytest.mark.parametrize(
    "change", [{"enabled": False}, {"external": "http://127.0.0.1:9"}], ids=["disabled", "external"]
)
def test_survivors_of_a_daemon_that_is_no_longer_to_be_run_are_ended(
    project: Project, change: dict[str, object]
) -> None:
    project.configure(api=toy())
    project.serve()
    pid = project.reaches("api", "ready").pid
    project.kill_supervisor()
    project.configure(api=toy(**change) if "enabled" in change else change)
    project.serve()
    assert pid is not None
    until(lambda: not is_alive(pid), "the end of the survivor")


@pytest.mark.long
def test_an_orphan_is_gone_before_its_port_is_given_to_another_daemon(project: Project) -> None:
    port = free_port()
    project.configure(old=toy("ignore-term", port=port))
    project.serve()
    project.reaches("old", "ready")
    project.kill_supervisor()
    project.configure(new=toy(port=port))
    project.serve()
    project.reaches("new", "ready")
    assert "parked" not in [event for event, _ in project.events("new")]


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


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_of_another_machine_affects_only_its_daemon(project: Project, host: str) -> None:
    project.configure(api=toy(host=host), other=toy())
    project.serve()
    project.reaches("other", "ready")
    failed = project.reaches("api", "backoff", "parked")
    assert host in str(failed.detail)
    assert project.run("doctor").returncode == 0


def test_a_flooding_log_stays_within_its_bounds(project: Project) -> None:
    project.configure(api=toy("flood=200000", log={"max_bytes": 50_000, "keep": 1}))
    project.serve()
    log = project.state.daemon_log("api")
    project.reaches("api", "ready")
    until(lambda: log.stat().st_size <= 50_000, "the rotation of the rest")
    assert log.with_name("api.log.1").stat().st_size < 2 * 50_000
    assert log.read_text().endswith("line 000199999\n")


def test_an_operators_restart_of_a_held_daemon_restarts_it(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    first = project.reaches("api", "ready")
    project.run("hold", "api")
    assert project.run("restart", "api").returncode == 0
    assert project.daemon("api").pid != first.pid
    assert project.daemon("api").held


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


def test_a_deleted_state_directory_does_not_prevent_a_stop(project: Project) -> None:
    project.configure(api=toy(stop={"grace_s": 1.0}))
    supervisor = project.serve()
    pid = project.reaches("api", "ready").pid
    shutil.rmtree(project.state.path)
    supervisor.terminate()
    assert supervisor.wait(PATIENCE_S) == 0
    assert pid is not None
    assert not is_alive(pid)


def test_nothing_is_sent_to_a_stranger_on_the_port_and_the_next_start_takes_another(project: Project) -> None:
    """Like mlx, it loses the race for its port, says so, and keeps running."""
    port = free_port()
    seen = project.root / "seen"
    listen = f"import socket; s = socket.create_server(('127.0.0.1', {port})); c = s.accept; "
    script = listen + f"f = open({str(seen)!r}, 'ab', 0)\nwhile True: f.write(c()[0].recv(100))"
    racer = project.root / "racer.py"
    racer.write_text(
        "import subprocess, sys, time, os\n"
        f"if not os.path.exists({str(seen)!r}):\n"
        f"    env = {{k: v for k, v in os.environ.items() if k != {MARK_VARIABLE!r}}}\n"
        f"    subprocess.Popen([sys.executable, '-IS', '-c', {script!r}], env=env, start_new_session=True)\n"
        "    time.sleep(600)\n"
        f"os.execv(sys.executable, {TOY!r} + [f'port={{sys.argv[1]}}'])\n"
    )
    project.configure(api={**toy(), "command": [sys.executable, str(racer), "${port}"], "port": port})
    project.serve()
    try:
        parked = project.reaches("api", "parked")
        assert f"port {port} is held by" in str(parked.detail)
        assert any(f"port {port} is served by" in str(detail) for _, detail in project.events("api"))
        assert seen.read_bytes() == b""
    finally:
        holder = current_platform().port_holder(port)
        if holder is not None:
            kill(holder.pid)


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

    from neo_daemons.cli import render

    output = StringIO()
    Console(file=output, width=80).print(render.table(project.client.status(), 80))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert len(lines) == 3
    assert lines[2].startswith("api: ready after")


def test_nohup_is_respected(project: Project) -> None:
    project.configure(api=toy())
    supervisor = project.serve(prefix=("nohup",), wait=False)

    def answers() -> bool:
        with contextlib.suppress(Unreachable):  # it has just begun
            return project.daemon("api").ready
        return False

    until(answers, "the supervisor and its daemon")
    (project.root / "neo-daemons.toml").write_text("[[[")
    supervisor.send_signal(signal.SIGHUP)
    # By the time that this is answered the signal has been met; it would have left its own refusal in the journal.
    assert project.run("reload").returncode == 1
    assert {event for event, _ in project.events()}.isdisjoint({"supervisor-stopping", "reload-refused"})


def test_a_manual_start_brings_back_a_daemon_that_is_being_stopped(project: Project) -> None:
    project.configure(api=toy("ignore-term", stop={"grace_s": 1.0}), user=toy(requires=["api"]))
    project.serve()
    project.reaches("user", "ready")
    project.client.order("api", "stop")
    project.client.order("user", "restart")
    project.reaches("user", "ready")
    assert project.daemon("api").ready
