"""Ports, data directories and probes: who answers, and whether that means health."""

from __future__ import annotations

import re
import signal
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from neo_daemons import procfs, records
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord
from neo_daemons.supervision.platform import MARK_VARIABLE, current_platform

from .harness import FAST, PATIENCE_S, TOY, Child, Project, free_port, in_namespace, is_alive, kill, toy, until

pytestmark = pytest.mark.long

LIVE = {"type": "http", "interval_s": 0.1, "timeout_s": 1.5, "failures": 2}
"""Kills a hung daemon soon, but not one that is slow because the machine is."""


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


@pytest.mark.long
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
        doctor = other.run("doctor")
        assert doctor.returncode == 1
        assert re.search(rf"^problem +api: {re.escape(str(data))} is in use by pid \d+", doctor.stdout, re.M)
        assert "set daemons.api.data_dir" in doctor.stdout
        doctor = project.run("doctor")
        assert f"api: {data} is in use by this daemon\n" in doctor.stdout
        assert doctor.returncode == (0 if supervised else 1)
        assert first.pid is not None
        assert is_alive(first.pid)
    finally:
        assert other.close() == []
    if not supervised:
        project.serve()
        assert project.reaches("api", "ready").pid == first.pid


def test_a_lock_held_by_the_daemon_does_not_prove_that_a_stranger_is_the_daemon(project: Project) -> None:
    """Found by chaos: a record with a stranger's full identity, while the real daemon ran, had the stranger killed."""
    project.configure(api=toy())
    project.serve()
    true = project.reaches("api", "ready").pid
    project.kill_supervisor()
    path = project.state.daemon_record("api")
    record = records.read(path, DaemonRecord)
    assert record is not None
    with Child(["sleep", "600"], start_new_session=True) as innocent:
        try:
            identity = procfs.identify(innocent.pid)
            write_struct(path, msgspec.structs.replace(record, pid=innocent.pid, identity=identity))
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


def test_one_failed_probe_is_no_reason_to_kill(project: Project) -> None:
    project.configure(api=toy(live={**LIVE, "failures": 1000}))
    project.serve()
    first = project.reaches("api", "ready")
    kill(first.pid, signal.SIGSTOP)
    project.reaches("api", "degraded")
    kill(first.pid, signal.SIGCONT)
    assert project.reaches("api", "ready").pid == first.pid


@pytest.mark.long
def test_a_daemon_that_answers_503_is_never_ready_and_parked_by_its_kill_budget(project: Project) -> None:
    project.configure(api=toy("status=503", start_grace_s=3.0, restart={**FAST, "kills": 2}))
    project.serve()
    seen = project.reaches("api", "running")
    assert not seen.ready
    parked = project.reaches("api", "parked")
    assert parked.detail is not None
    assert "stopped twice within an hour because its probes failed" in parked.detail
    assert "status 503" in parked.detail


def test_a_probe_that_never_returns_delays_no_other_daemon(project: Project) -> None:
    project.configure(mute=toy("mute", ready={"type": "http", "timeout_s": 600.0}), api=toy())
    project.serve()
    project.reaches("api", "ready")
    assert project.daemon("mute").state == "running"
    assert project.run("stop", "mute").returncode == 0
    assert project.daemon("mute").state == "stopped"


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
    remedy = "install it, or use its full path in the command"
    assert missing.detail == f"cannot start nope: no-such-program was not found on the daemon's PATH; {remedy}"
    mlx = project.reaches("mlx", "unavailable")
    assert mlx.detail
    assert mlx.remedy


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


@pytest.mark.long
def test_a_flooding_log_stays_within_its_bounds(project: Project) -> None:
    project.configure(api=toy("flood=200000", log={"max_bytes": 50_000, "keep": 1}))
    project.serve()
    log = project.state.daemon_log("api")
    project.reaches("api", "ready")
    until(lambda: log.stat().st_size <= 50_000, "the rotation of the rest")
    assert log.with_name("api.log.1").stat().st_size < 2 * 50_000
    assert log.read_text().endswith("line 000199999\n")


def a_racer(project: Project, seen: Path) -> list[str]:
    """A command that, like mlx, loses the race for its port the first time, and keeps running."""
    listen = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); c = s.accept; "
    script = listen + f"f = open({str(seen)!r}, 'ab', 0)\nwhile True: f.write(c()[0].recv(100))"
    racer = project.root / "racer.py"
    racer.write_text(
        "import subprocess, sys, time, os\n"
        f"if not os.path.exists({str(seen)!r}):\n"
        f"    env = {{k: v for k, v in os.environ.items() if k != {MARK_VARIABLE!r}}}\n"
        f"    command = [sys.executable, '-IS', '-c', {script!r}, sys.argv[1]]\n"
        "    subprocess.Popen(command, env=env, start_new_session=True)\n"
        "    time.sleep(600)\n"
        f"os.execv(sys.executable, {TOY!r} + [f'port={{sys.argv[1]}}'])\n"
    )
    return [sys.executable, str(racer), "${port}"]


def end_of(port: int) -> None:
    holder = current_platform().port_holder(port)
    if holder is not None:
        kill(holder.pid)


def test_nothing_is_sent_to_a_stranger_on_the_port_and_the_next_start_is_refused(project: Project) -> None:
    port = free_port()
    seen = project.root / "seen"
    project.configure(api={**toy(), "command": a_racer(project, seen), "port": port})
    project.serve()
    try:
        parked = project.reaches("api", "parked")
        assert f"port {port} is held by" in str(parked.detail)
        assert any(f"port {port} is served by" in str(detail) for _, detail in project.events("api"))
        assert seen.read_bytes() == b""
    finally:
        end_of(port)


def test_one_that_is_never_restarted_and_lost_its_port_takes_another(project: Project) -> None:
    """That run has never been the daemon, so it is no restart; `restart = "never"` says nothing of it."""
    seen = project.root / "seen"
    project.configure(api={**toy(), "command": a_racer(project, seen), "port": "auto", "restart": "never"})
    project.serve()
    lost = None
    try:
        ready = project.reaches("api", "ready")
        lost = next(
            int(found[1])
            for _, detail in project.events("api")
            if (found := re.search(r"port (\d+) is served by", str(detail)))
        )
        assert lost not in ready.ports.values()
        assert seen.read_bytes() == b""
    finally:
        if lost is not None:
            end_of(lost)
