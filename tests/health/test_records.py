"""The PID record adds process and supervisor to what is seen, and a false record is not believed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons import processes, records
from neo_daemons.health import BridgeObserver, ChromaObserver, HttpObserver, MlxObserver, ProcessObserver, TcpObserver
from neo_daemons.health.record import verify
from neo_daemons.records import DaemonRecord, Identity
from neo_daemons.state_dir import StateDir
from tests.harness import PATIENCE_S, Child, Project, toy, until

from .answers import Handler, Server, says


def observers_of(project: Project) -> dict[str, Any]:
    return {
        "http": HttpObserver(name="api", state_dir=project.state.path),
        "tcp": TcpObserver(name="api", state_dir=project.state.path),
        "process": ProcessObserver("api", project.state.path),
    }


def look(project: Project) -> dict[str, tuple[str, str | None, bool | None, int | None]]:
    seen = {name: observer.check() for name, observer in observers_of(project).items()}
    return {name: (one.status, one.record, one.managed, one.pid) for name, one in seen.items()}


def alike(*expected: Any) -> dict[str, Any]:
    return dict.fromkeys(("http", "tcp", "process"), expected)


def test_a_managed_daemon_is_told_with_its_pid_and_restarts(supervised: Project) -> None:
    pid = supervised.daemon("api").pid
    assert pid is not None
    assert look(supervised) == alike("healthy", "live", True, pid)
    os.kill(pid, signal.SIGKILL)
    after = supervised.back("api", pid)
    seen = observers_of(supervised)["http"].check()
    assert (seen.status, seen.pid, seen.restarts, seen.url) == ("healthy", after.pid, 1, after.url)


def test_a_survivor_without_a_supervisor_is_healthy_and_not_managed(supervised: Project) -> None:
    pid = supervised.daemon("api").pid
    supervised.kill_supervisor()
    assert look(supervised) == alike("healthy", "live", False, pid)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: look(supervised)["process"][1] == "stale", "its end to be seen")
    assert look(supervised) == alike("unhealthy", "stale", False, None)
    reasons = observers_of(supervised)["http"].check().reasons
    assert "connection refused" in reasons[0]
    assert f"stale: pid {pid} is gone" in reasons[1]


def test_a_daemon_that_was_stopped_or_never_started_has_no_record(supervised: Project, tmp_path: Path) -> None:
    supervised.client.order("api", "stop", wait_s=PATIENCE_S)
    assert look(supervised) == alike("unhealthy", "missing", False, None)
    seen = HttpObserver(name="api", state_dir=tmp_path / "nowhere").check()
    assert (seen.status, seen.record) == ("unhealthy", "missing")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.long
def test_a_stopped_process_is_told(supervised: Project) -> None:
    pid = supervised.daemon("api").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        seen = HttpObserver(name="api", state_dir=supervised.state.path, timeout_s=0.3).check(PATIENCE_S)
        assert (seen.status, seen.record, seen.pid) == ("unhealthy", "live", pid)
        assert seen.reasons == (f"pid {pid} is stopped by a signal", f"{seen.url}/: no answer within 0.3 s")
        assert look(supervised)["process"] == ("unhealthy", "live", True, pid)
    finally:
        os.kill(pid, signal.SIGCONT)


def rewrite(project: Project, **changes: Any) -> None:
    path = project.state.daemon_record("api")
    record = records.read(path, DaemonRecord)
    assert record is not None
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **changes)))


def test_a_process_that_withholds_its_environment_is_proven_by_the_lock(
    supervised: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As programs of the system do on macOS. Any of them would have been taken for the daemon."""
    monkeypatch.setattr(processes, "environment_holds", lambda pid, text: None)
    assert look(supervised)["process"][1] == "live"
    path = supervised.state.daemon_record("api")
    true = path.read_bytes()
    with Child(["sleep", "600"]) as bystander:
        rewrite(supervised, pid=bystander.pid, identity=processes.identify(bystander.pid))
        assert look(supervised)["process"] == ("unknown", "unproven", None, None)
        monkeypatch.setattr(processes, "has_open", lambda pid, file: None)
        assert look(supervised)["process"][1] == "live", "nothing is shown that speaks against it"
        bystander.kill()
    path.write_bytes(true)


def test_records_that_lie_are_not_believed(supervised: Project) -> None:
    """Each record names the daemon's true URL, where it answers; what it says of the process is false."""
    pid = supervised.daemon("api").pid
    path = supervised.state.daemon_record("api")
    true = path.read_bytes()
    record = records.read(path, DaemonRecord)
    assert record is not None
    assert record.identity is not None
    with Child(["sleep", "600"]) as bystander:
        try:
            other = processes.identify(bystander.pid)
            assert other is not None
            # Another process has the pid.
            rewrite(supervised, pid=bystander.pid)
            assert look(supervised)["http"] == ("degraded", "stale", False, pid)
            assert look(supervised)["process"] == ("unhealthy", "stale", False, None)
            said = observers_of(supervised)["http"].check().reasons[0]
            assert f"it answers, but its PID record is stale: pid {bystander.pid} is another process now" in said
            # A living process, with its true identity, that is no process of the daemon.
            rewrite(supervised, pid=bystander.pid, identity=other)
            assert look(supervised)["http"] == ("healthy", "unproven", None, pid)
            assert look(supervised)["process"] == ("unknown", "unproven", None, None)
            # Of another boot; of another daemon.
            path.write_bytes(true)
            rewrite(supervised, identity=Identity(boot_id="x", start_time=record.identity.start_time))
            assert look(supervised)["process"] == ("unhealthy", "stale", False, None)
            path.write_bytes(true)
            rewrite(supervised, name="another")
            assert look(supervised)["process"] == ("unknown", "damaged", None, None)
        finally:
            bystander.kill()
    path.write_bytes(true)
    assert look(supervised) == alike("healthy", "live", True, pid)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff", b'{"format": 1, "name": "api"', b"x" * 2_000_000])
def test_a_record_that_cannot_be_read_is_unknown_and_never_dead(tmp_path: Path, content: bytes) -> None:
    state = StateDir(tmp_path)
    state.create()
    state.daemon_record("api").write_bytes(content)
    for observer in (
        HttpObserver(name="api", state_dir=tmp_path),
        TcpObserver(name="api", state_dir=tmp_path),
        ProcessObserver("api", tmp_path),
        ChromaObserver(name="api", state_dir=tmp_path),
        MlxObserver(name="api", state_dir=tmp_path),
        BridgeObserver(name="api", state_dir=tmp_path),
    ):
        seen = observer.check()
        assert (seen.status, seen.record, seen.managed) == ("unknown", "damaged", None), seen
        assert "PID record cannot be used" in seen.reasons[0]


def test_a_record_cut_at_any_byte_is_survived(supervised: Project) -> None:
    path = supervised.state.daemon_record("api")
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert verify(supervised.state, "api").status == "damaged", whole[:length]
    path.write_bytes(whole)
    assert verify(supervised.state, "api").status == "live"


def test_a_stranger_on_the_port_of_a_living_daemon_is_told(
    project: Project, serve: Callable[[Handler], Server]
) -> None:
    server = serve(says(200))
    project.configure(api={**toy("quiet"), "url": server.url})
    project.serve()
    pid = project.reaches("api", "ready").pid
    seen = HttpObserver(name="api", state_dir=project.state.path).check()
    assert (seen.status, seen.record, seen.pid) == ("degraded", "live", pid)
    assert f"its port is in use by pid {os.getpid()} (" in seen.reasons[0]


def test_a_record_of_another_place_says_nothing_of_a_url(
    supervised: Project, serve: Callable[[Handler], Server]
) -> None:
    seen = HttpObserver(serve(says(200)).url, name="api", state_dir=supervised.state.path).check()
    assert (seen.status, seen.record, seen.managed, seen.restarts) == ("healthy", "elsewhere", None, None)
    assert seen.pid == os.getpid()
    url = supervised.daemon("api").url
    assert url is not None
    seen = HttpObserver(url.replace("127.0.0.1", "localhost"), name="api", state_dir=supervised.state.path).check()
    assert (seen.status, seen.record, seen.managed) == ("healthy", "live", True)
