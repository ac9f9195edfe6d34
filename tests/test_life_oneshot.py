"""What runs once is done with exit code 0, is not run again for each supervisor, and its failure is told to all that
wait for it."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import pytest

from neo_daemons.control.client import Client

from .harness import FAST, PATIENCE_S, Project, is_alive, kill, toy, until

pytestmark = pytest.mark.long

RAN = "runs"
"""Each run of the work appends a line to this file."""
WORK = """
import os, pathlib, sys, time
with open("runs", "a") as runs:
    print(os.getpid(), *sys.argv[1:], file=runs, flush=True)
print("working", flush=True)
while pathlib.Path("wait").exists():
    time.sleep(0.01)
if pathlib.Path("fail").exists():
    sys.exit("no such table")
"""
TERM = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
"""The work ends well when it is told to stop."""


def work(*arguments: str, **settings: Any) -> dict[str, Any]:
    return {"command": [sys.executable, "-c", WORK, *arguments], "oneshot": True, "restart": FAST, **settings}


def runs(project: Project) -> list[str]:
    """The pids and arguments of all runs so far."""
    path = project.root / RAN
    return path.read_text().splitlines() if path.exists() else []


def test_it_is_done_once_and_what_requires_it_starts_then_also_later(project: Project) -> None:
    project.configure(migrate=work(), app=toy(requires=["migrate"], restart=FAST))
    (project.root / "wait").touch()
    project.serve()
    running = project.reaches("migrate", "running")
    assert not running.ready
    waiting = project.reaches("app", "starting")
    assert waiting.waiting_for == "migrate"
    (project.root / "wait").unlink()
    app = project.reaches("app", "ready")
    done = project.daemon("migrate")
    assert (done.state, done.ready, done.settled, done.pid) == ("done", True, True, None)
    assert done.detail == "exit code 0; last line: working"
    kill(app.pid)
    project.back("app", app.pid)
    assert len(runs(project)) == 1
    project.stop()
    project.serve()
    again = project.reaches("migrate", "done")
    assert (again.detail or "").startswith("since ")
    project.reaches("app", "ready")
    assert project.run("status", "--check").returncode == 0
    assert "migrate" not in project.run("health").stdout
    assert len(runs(project)) == 1


def test_it_runs_again_by_restart_and_when_command_or_inputs_changed(project: Project) -> None:
    schema = project.root / "schema.sql"
    schema.write_text("1")
    project.configure(migrate=work(inputs=["*.sql"]))
    project.serve()
    project.reaches("migrate", "done")
    assert project.run("restart", "migrate").returncode == 0
    until(lambda: len(runs(project)) == 2 or None, "the second run")
    assert project.run("start", "migrate").returncode == 0  # it is done: nothing to do
    project.reaches("migrate", "done")

    project.configure(migrate=work("--all", inputs=["*.sql"]))
    assert "replace" in project.run("reload").stdout
    until(lambda: len(runs(project)) == 3 or None, "the run with another command")
    project.reaches("migrate", "done")
    project.configure(migrate=work("--all", inputs=["*.sql"], requires=[], restart="never"))
    assert project.run("reload").returncode == 0
    assert project.daemon("migrate").state == "done"

    project.stop()
    schema.write_text("2")
    project.serve()
    until(lambda: len(runs(project)) == 4 or None, "the run with another input")
    project.reaches("migrate", "done")


def test_serve_runs_it_again_at_once_when_its_inputs_change_but_does_not_interrupt_it(project: Project) -> None:
    schema = project.root / "schema.sql"
    schema.write_text("1")
    project.configure(migrate=work(inputs=["*.sql"]))
    project.serve()
    project.reaches("migrate", "done")
    (project.root / "wait").touch()
    schema.write_text("2")
    until(lambda: len(runs(project)) == 2 or None, "the second run")
    running = project.reaches("migrate", "running")
    schema.write_text("3")
    second = project.client.events(100, "migrate")
    (project.root / "wait").unlink()
    until(lambda: len(runs(project)) == 3 or None, "the third run")
    project.reaches("migrate", "done")
    assert runs(project)[1].split()[0] == str(running.pid)
    ended = [(entry.pid, entry.detail) for entry in project.client.events(100, "migrate") if entry.event == "exit"]
    assert (running.pid, "exit code 0") in ended
    assert len(second) < len(project.client.events(100, "migrate"))


def test_what_was_killed_is_not_done_nor_what_nobody_saw_end(project: Project) -> None:
    (project.root / "wait").touch()
    project.configure(migrate=work())
    project.serve()
    first = project.reaches("migrate", "running")
    until(lambda: runs(project) or None, "its begin")
    kill(first.pid)
    second = until(lambda: _running(project, first.pid), "the second run")
    until(lambda: str(second) in " ".join(runs(project)) or None, "its begin")
    project.kill_supervisor()
    project.serve()
    adopted = project.reaches("migrate", "running")
    assert (adopted.adopted, adopted.pid) == (True, second)
    (project.root / "wait").unlink()
    project.reaches("migrate", "done")
    # It ended well, but it is not our child: only a recent kernel tells us.
    exits = [detail for event, detail in project.events("migrate") if event == "exit"]
    expected = 2 if exits[-1] == "exit code 0" and len(exits) == 2 else 3
    assert len(runs(project)) == expected
    project.kill_supervisor()
    project.serve()
    project.reaches("migrate", "done")
    assert len(runs(project)) == expected


def _running(project: Project, other_than: int | None) -> int | None:
    daemon = project.daemon("migrate")
    return daemon.pid if daemon.state == "running" and daemon.pid != other_than else None


def test_a_run_that_is_killed_makes_an_earlier_success_void(project: Project) -> None:
    project.configure(migrate=work())
    project.serve()
    project.reaches("migrate", "done")
    (project.root / "wait").touch()
    project.client.order("migrate", "restart")
    running = project.reaches("migrate", "running")
    until(lambda: len(runs(project)) == 2 or None, "the second run")
    project.kill_supervisor()
    kill(running.pid)
    (project.root / "wait").unlink()
    project.serve()
    project.reaches("migrate", "done")
    assert len(runs(project)) == 3


def test_a_run_with_other_inputs_that_is_killed_makes_it_void_too(project: Project) -> None:
    schema = project.root / "schema.sql"
    schema.write_text("1")
    project.configure(migrate=work(inputs=["*.sql"]))
    project.serve()
    project.reaches("migrate", "done")
    project.stop()
    schema.write_text("2")
    (project.root / "wait").touch()
    project.serve()
    until(lambda: len(runs(project)) == 2 or None, "the second run")
    running = project.reaches("migrate", "running")
    project.kill_supervisor()
    kill(running.pid)
    (project.root / "wait").unlink()
    schema.write_text("1")
    project.serve()
    project.reaches("migrate", "done")
    assert len(runs(project)) == 3


def test_a_state_directory_that_was_copied_does_not_say_that_it_is_done(project: Project) -> None:
    project.configure(migrate=work())
    project.serve()
    project.reaches("migrate", "done")
    project.stop()
    shutil.copytree(project.state.path, project.root / "backup")
    shutil.rmtree(project.state.path)
    (project.root / "backup").rename(project.state.path)
    project.serve()
    project.reaches("migrate", "done")
    assert len(runs(project)) == 2


def test_a_hold_before_it_is_done_is_a_hold(project: Project) -> None:
    (project.root / "wait").touch()
    project.configure(migrate=work())
    project.serve()
    project.reaches("migrate", "running")
    project.client.order("migrate", "hold")
    project.client.order("migrate", "stop", wait_s=PATIENCE_S)
    project.client.order("migrate", "hold", wait_s=PATIENCE_S)
    project.stop()
    (project.root / "wait").unlink()
    project.serve()
    project.reaches("migrate", "held")
    project.client.order("migrate", "release")
    project.reaches("migrate", "done")


def test_what_it_requires_must_be_there_for_its_dependants_even_when_it_is_done(project: Project) -> None:
    def configure(*, db: bool) -> None:
        project.configure(db=toy(enabled=db), migrate=work(requires=["db"]), app=toy(requires=["migrate"]))

    configure(db=True)
    project.serve()
    project.reaches("app", "ready")
    project.stop()
    configure(db=False)
    project.serve()
    project.reaches("migrate", "done")
    assert (project.reaches("app", "unavailable").detail or "").startswith("requires db, which is stopped")
    project.client.order("db", "start")
    project.reaches("app", "ready")


def test_a_stop_while_it_runs_is_no_success(project: Project) -> None:
    (project.root / "wait").touch()
    project.configure(migrate=work() | {"command": [sys.executable, "-c", TERM + WORK]})
    project.serve()
    project.reaches("migrate", "running")
    until(lambda: runs(project) or None, "its handler")
    project.client.order("migrate", "stop", wait_s=PATIENCE_S)
    assert project.daemon("migrate").state == "stopped"
    (project.root / "wait").unlink()
    project.client.order("migrate", "start", wait_s=PATIENCE_S)
    project.reaches("migrate", "done")
    assert len(runs(project)) == 2


def test_what_it_left_running_is_ended(project: Project) -> None:
    leave = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, file=open('left', 'w'))"
    project.configure(migrate=work() | {"command": [sys.executable, "-c", leave]})
    project.serve()
    project.reaches("migrate", "done")
    assert not is_alive(int((project.root / "left").read_text()))


def test_its_failure_is_told_to_all_that_wait_and_mended_by_a_start(project: Project) -> None:
    (project.root / "fail").touch()
    project.configure(
        migrate=work(restart="never"),
        app=toy(requires=["migrate"]),
        front=toy(requires=["app"]),
    )
    up = project.run("up")
    try:
        assert up.returncode == 1
        why = "exit code 1; last line: no such table"
        assert f"migrate: parked, {why}" in up.stderr
        assert "it waits for migrate" in project.run("why", "front").stdout or why in project.run("why", "front").stdout
        assert why in (project.daemon("app").detail or "")
        needed = project.client.need("front", wait_s=PATIENCE_S)
        assert "migrate" in (needed.failure or "")
        assert why in (needed.failure or "")
        (project.root / "fail").unlink()
        assert project.run("start", "migrate").returncode == 0
        project.reaches("front", "ready")
        assert len(runs(project)) == 2
        assert project.client.why("migrate").failures == 0
    finally:
        assert project.run("down").returncode == 0


def test_a_failure_is_forgotten_once_it_has_succeeded(project: Project) -> None:
    (project.root / "fail").touch()
    project.configure(migrate=work(restart={**FAST, "base_s": 0.2}))
    project.serve()
    until(lambda: len(runs(project)) >= 2 or None, "two failures")
    (project.root / "fail").unlink()
    project.reaches("migrate", "done")
    assert project.client.why("migrate").failures == 0


def test_a_run_that_takes_too_long_has_failed_however_it_ends(project: Project) -> None:
    (project.root / "wait").touch()
    obeys = {"command": [sys.executable, "-c", TERM + WORK]}
    project.configure(migrate=work(max_runtime_s=0.5, restart="never") | obeys)
    project.serve()
    failed = project.reaches("migrate", "parked")
    assert "has not ended within max_runtime_s = 0.5" in (failed.detail or "")


def test_with_cascade_it_runs_again_for_each_run_of_what_it_works_on(project: Project) -> None:
    """To seed a database that is in memory."""
    seed = work(requires=[{"name": "db", "cascade": True}])
    project.configure(db=toy(restart=FAST), seed=seed, app=toy(requires=["seed"]))
    project.serve()
    project.reaches("app", "ready")
    assert len(runs(project)) == 1
    project.kill_supervisor()
    project.serve()
    project.reaches("seed", "done")
    db = project.reaches("db", "ready")
    assert (db.adopted, len(runs(project))) == (True, 1)
    kill(db.pid)
    project.back("db", db.pid)
    until(lambda: len(runs(project)) == 2 or None, "the second run")
    project.reaches("seed", "done")
    project.stop()
    project.serve()
    until(lambda: len(runs(project)) == 3 or None, "the third run")
    project.reaches("seed", "done")
    events = [event for event, _ in project.events("seed")]
    assert events.count("done") == 4, "it was done before the database was there"


def test_on_demand_a_done_one_holds_nothing_itself_but_what_its_users_need(project: Project) -> None:
    on_demand = {"start": "on-demand", "idle_stop_s": 0.2}
    project.configure(db=toy(**on_demand), migrate=work(requires=["db"]), app=toy(requires=["migrate"], **on_demand))
    project.serve()
    project.reaches("migrate", "done")
    project.reaches("db", "idle")  # it was started for the migration
    first = [event for event, _ in project.events("db")].count("starting")
    project.client.order("migrate", "stop", wait_s=PATIENCE_S)
    assert project.client.need("migrate", wait_s=PATIENCE_S).daemon.state == "done"
    assert [event for event, _ in project.events("db")].count("starting") == first
    with Client(project.state).lease("test", needs=["app"]):
        assert project.client.need("app", wait_s=PATIENCE_S).failure is None
        assert project.daemon("db").ready
        assert [holder.name for holder in project.daemon("db").holders] == ["daemon app"]
        assert project.daemon("db").idle_stop_at is None
    project.reaches("db", "idle")
    assert len(runs(project)) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 0}'])
def test_a_damaged_record_is_moved_aside_and_it_runs_once_more(project: Project, content: bytes) -> None:
    project.configure(migrate=work())
    project.serve()
    project.reaches("migrate", "done")
    project.stop()
    project.state.done_record("migrate").write_bytes(content)
    project.serve()
    project.reaches("migrate", "done")
    assert len(runs(project)) == 2
    assert [detail for event, detail in project.events("migrate") if event == "record-damaged"]
    assert list(project.state.daemons.glob("migrate.done.damaged-*"))


def test_a_copied_project_does_its_own_work(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    project.configure(migrate=work())
    project.serve()
    project.reaches("migrate", "done")
    project.stop()
    root = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns("*.out", "registry"))
    copy = Project(root)
    try:
        copy.serve()
        copy.reaches("migrate", "done")
        assert len(runs(copy)) == 2
    finally:
        assert copy.close() == []
