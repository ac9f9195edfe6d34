"""Adoption: a supervisor takes over what an earlier one left, and nothing else."""

from __future__ import annotations

import json
import signal

import pytest

from neo_daemons import processes
from neo_daemons.files import write_struct
from neo_daemons.records import DaemonRecord, Directory
from neo_daemons.supervision.platform import current_platform

from .harness import PATIENCE_S, TELLS_EXITS_OF_OTHERS, Child, Project, free_port, is_alive, kill, toy, until

LIVE = {"type": "http", "interval_s": 0.1, "timeout_s": 1.5, "failures": 2}
"""Kills a hung daemon soon, but not one that is slow because the machine is."""


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
    how = "SIGKILL" if TELLS_EXITS_OF_OTHERS else "exit code unknown"
    until(lambda: str(project.daemon("api").last_exit).count(how), "how it ended")


def test_what_a_daemon_writes_between_two_supervisors_is_kept(project: Project) -> None:
    project.configure(api=toy("flood=20000"))
    project.serve()
    log = project.state.daemon_log("api")
    # Its first line: the supervisor opens the log before there is a process.
    until(lambda: log.exists() and log.stat().st_size, "the daemon")
    project.kill_supervisor()
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


@pytest.mark.parametrize("identity", ["of another process", "its own"])
def test_a_forged_record_that_names_an_innocent_process_harms_no_process(project: Project, identity: str) -> None:
    platform = current_platform()
    with Child(["sleep", "600"], start_new_session=True) as innocent:
        try:
            known = platform.own_identity()
            if identity == "its own":
                known = processes.identify(innocent.pid) or known
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


@pytest.mark.parametrize(
    "content",
    [b'{"format": 1, "name": "api", "tok', b"\xff\xfe\x00", b"12345", b'{"format": 0}', b"[" * 5000],
    ids=["cut off", "binary", "a bare pid", "another format", "deeply nested"],
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


def test_an_empty_record_which_a_power_cut_leaves_is_removed_without_a_word(project: Project) -> None:
    project.state.create()
    project.state.daemon_record("api").touch()
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    assert not any(event == "record-damaged" for event, _ in project.events("api"))
    assert list(project.state.daemons.glob("*.damaged-*")) == []


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


def test_a_held_survivor_is_adopted(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    first = project.reaches("api", "ready")
    project.run("hold", "api")
    project.kill_supervisor()
    project.serve()
    assert project.reaches("api", "ready").pid == first.pid
    assert project.daemon("api").held


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
