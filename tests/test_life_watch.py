"""`serve` restarts a daemon when the files that its definition watches change, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neo_daemons.control.client import Client
from neo_daemons.definitions import Definition, Launch
from neo_daemons.supervision.launch import resolve
from neo_daemons.supervision.reload import resolving

from .harness import Project, toy, until

pytestmark = pytest.mark.long

WATCHING = {"watch": ["src/**/*.py"]}


@pytest.fixture
def source(project: Project) -> Path:
    path = project.root / "src" / "app.py"
    path.parent.mkdir()
    path.write_text("version = 1\n")
    return path


def details(project: Project, event: str, name: str = "api") -> list[str | None]:
    return [detail for found, detail in project.events(name) if found == event]


def comes(project: Project, event: str, detail: str) -> None:
    until(lambda: any(detail in str(found) for found in details(project, event)), f"{event}: {detail}")


def test_a_changed_file_restarts_the_daemons_that_watch_it(project: Project, source: Path) -> None:
    project.configure(api=toy(**WATCHING, restart={"limit": 1}), other=toy())
    project.serve()
    before, other = project.reaches("api", "ready").pid, project.reaches("other", "ready").pid
    for number in range(3):  # more often than it may be restarted because of failures
        source.write_text(f"version = {number + 2}\n")
        after = project.back("api", before)
        assert after.pid is not None
        before = after.pid
    (project.root / "src" / "new").mkdir()
    (project.root / "src" / "new" / "more.py").write_text("")
    before = project.back("api", before).pid
    shutil.move(project.root / "src" / "new", project.root / "old")
    project.back("api", before)
    assert project.daemon("other").pid == other
    assert details(project, "files-changed") == [
        *["src/app.py changed"] * 3,
        "src/new/more.py changed",
        "src/new/more.py changed",
    ]
    stopping = [entry for entry in project.client.events(500, "api") if entry.event == "stopping"]
    assert {entry.cause for entry in stopping} == {"recycled"}
    assert stopping[0].detail == "recycled: src/app.py changed"
    assert project.client.why("api").failures == 0


def test_a_file_that_is_touched_or_not_watched_restarts_nothing(project: Project, source: Path) -> None:
    project.configure(api=toy(**WATCHING), marker=toy(watch=["marker"]))
    (project.root / "marker").write_text("0")
    project.serve()
    before, marker = project.reaches("api", "ready").pid, project.reaches("marker", "ready").pid
    os.utime(source)
    (source.parent / "notes.txt").write_text("not watched")
    (project.root / "marker").write_text("1")  # what follows it has seen what came before
    project.back("marker", marker)
    assert project.daemon("api").pid == before
    assert details(project, "files-changed") == []


def test_a_daemon_that_failed_because_of_its_file_is_tried_again_at_once(project: Project, source: Path) -> None:
    source.write_text("import sys; sys.exit('broken')\n")
    command = [sys.executable, "-IS", str(source)]
    ready = {"type": "log", "pattern": "at work"}
    project.configure(api={"command": command, "ready": ready, "restart": {"limit": 1, "revive_s": 0}, **WATCHING})
    project.serve()
    project.reaches("api", "parked")
    source.write_text("import signal; print('at work', flush=True); signal.pause()\n")
    project.reaches("api", "ready")
    assert details(project, "files-changed") == ["src/app.py changed"]


@pytest.mark.parametrize("how", ["held", "inhibited"])
def test_a_daemon_that_must_not_be_disturbed_is_restarted_later(project: Project, source: Path, how: str) -> None:
    project.configure(api=toy(**WATCHING))
    project.serve()
    before = project.reaches("api", "ready").pid

    def change() -> None:
        source.write_text("version = 2\n")
        comes(project, "files-changed", "not restarted while it is on hold or tests use it")
        assert project.daemon("api").pid == before

    if how == "held":
        project.client.order("api", "hold")
        change()
        project.client.order("api", "release")
    else:
        with Client(project.state).lease("a test", inhibit="*"):
            change()
    project.back("api", before)


def test_a_stopped_daemon_stays_stopped(project: Project, source: Path) -> None:
    project.configure(api=toy(**WATCHING), other=toy(**WATCHING))
    project.serve()
    other = project.reaches("other", "ready").pid
    project.reaches("api", "ready")
    project.client.order("api", "stop", wait_s=60)
    source.write_text("version = 2\n")
    project.back("other", other)
    assert project.daemon("api").state == "stopped"


def test_a_survivor_is_adopted_unless_its_files_have_changed(project: Project, source: Path) -> None:
    project.configure(api=toy(**WATCHING))
    project.serve()
    before = project.reaches("api", "ready").pid
    project.kill_supervisor()
    project.serve()
    assert project.reaches("api", "ready").pid == before
    project.kill_supervisor()
    source.write_text("version = 2\n")
    project.serve()
    after = project.back("api", before)
    assert len(details(project, "replaced")) == 1
    project.stop()
    project.serve()
    project.back("api", after.pid)
    assert len(details(project, "replaced")) == 1


def test_a_reload_begins_to_watch_and_names_the_file_that_has_changed(project: Project, source: Path) -> None:
    project.configure(api=toy())
    project.serve()
    before = project.reaches("api", "ready").pid
    project.configure(api=toy(**WATCHING))
    project.client.reload()
    before = project.back("api", before).pid
    source.write_text("version = 2\n")
    before = project.back("api", before).pid
    project.configure(api=toy())
    project.client.reload()
    before = project.back("api", before).pid
    project.configure(api=toy(watch=["src/*.py"], env={"A": "1"}))
    (change,) = project.client.reload(dry_run=True)
    assert change.reason == "env, watch changed"


def test_without_watchfiles_serve_says_how_to_install_it_and_goes_on(project: Project, source: Path) -> None:
    (project.root / "elsewhere").mkdir()
    (project.root / "elsewhere" / "sitecustomize.py").write_text("import sys\nsys.modules['watchfiles'] = None\n")
    project.env["PYTHONPATH"] = str(project.root / "elsewhere")
    project.configure(api=toy(**WATCHING))
    project.serve()
    project.reaches("api", "ready")
    (said,) = details(project, "files-not-watched")
    assert said is not None
    assert "watchfiles is not installed" in said
    assert "watchfiles>=" in said
    assert project.client.status().supervisor.warning == said


WRONG: dict[str, tuple[Any, str]] = {
    "none": (["src/*.rs"], "api.watch[0] = 'src/*.rs': no file in "),
    "no pattern": (["src/"], "api.watch[0] = 'src/': 'src/' names no files; correct it"),
    "no set": (["src/[b-a].py"], "api.watch[0] = 'src/[b-a].py': 'src/[b-a].py' is not a pattern: bad character range"),
    "no list": ("src/*.py", "api.watch = 'src/*.py': expected list, got string"),
    "empty": ([""], "api.watch[0] = '': is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_pattern_is_an_error_of_the_configuration(project: Project, source: Path, case: str) -> None:
    watch, says = WRONG[case]
    project.configure(api=toy(watch=watch))
    outcome = project.run("serve")
    assert outcome.returncode == 2, outcome.stderr
    assert says in outcome.stderr


def test_files_that_vanish_are_reported_and_the_daemon_goes_on(project: Project, source: Path) -> None:
    project.configure(api=toy(**WATCHING))
    project.serve()
    before = project.reaches("api", "ready").pid
    source.unlink()
    comes(project, "files-not-watched", "no file in")
    assert project.daemon("api").pid == before
    source.write_text("version = 2\n")
    project.back("api", before)


@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_a_directory_that_is_replaced_is_still_watched(project: Project, source: Path, how: str) -> None:
    """Bundlers, `git stash` and `git checkout` do so."""
    project.configure(api=toy(**WATCHING), one=toy(watch=["src/app.py"]))
    project.serve()
    before, one = project.reaches("api", "ready").pid, project.reaches("one", "ready").pid
    for number in range(2):
        if how == "removed":
            shutil.rmtree(source.parent)
        else:
            source.parent.rename(project.root / f"old-{number}")
        comes(project, "files-not-watched", "no file in")
        source.parent.mkdir()
        source.write_text(f"version = {number + 2}\n")
        before = project.back("api", before).pid
        one = project.back("one", one).pid
        source.write_text(f"version = {number + 2}.5\n")
        before = project.back("api", before).pid
        one = project.back("one", one).pid


def test_a_directory_that_is_made_anew_at_once_is_still_watched(project: Project, source: Path) -> None:
    """Its number is often the same as before."""
    project.configure(api=toy(**WATCHING))
    project.serve()
    before = project.reaches("api", "ready").pid
    shutil.rmtree(source.parent)
    source.parent.mkdir()
    source.write_text("version = 2\n")
    before = project.back("api", before).pid
    source.write_text("version = 3\n")
    project.back("api", before)


def test_a_daemon_that_must_not_be_disturbed_does_not_delay_others(project: Project, source: Path) -> None:
    other = source.with_name("other.py")
    other.write_text("")
    project.configure(one=toy(watch=["src/app.py"]), two=toy(watch=["src/other.py"]))
    project.serve()
    one, two = project.reaches("one", "ready").pid, project.reaches("two", "ready").pid
    project.client.order("one", "hold")
    source.write_text("version = 2\n")
    until(lambda: details(project, "files-changed", "one"), "a change of one")
    other.write_text("version = 2\n")
    two = project.back("two", two).pid
    assert project.daemon("one").pid == one
    source.write_text("version = 1\n")  # as it was: there is nothing to restart for
    other.write_text("version = 3\n")
    two = project.back("two", two).pid
    project.client.order("one", "release")
    other.write_text("version = 4\n")
    project.back("two", two)
    assert project.daemon("one").pid == one
    source.write_text("version = 2\n")
    project.back("one", one)
    assert len(details(project, "files-changed", "one")) == 2


def test_a_file_is_watched_without_the_directories_beside_it(project: Project) -> None:
    (project.root / "settings.toml").write_text("a = 1\n")
    for number in range(100):
        (project.root / "data" / str(number)).mkdir(parents=True)
    project.configure(api=toy(watch=["settings.toml"]))
    project.serve()
    before = project.reaches("api", "ready").pid
    (project.root / "settings.toml").write_text("a = 2\n")
    before = project.back("api", before).pid
    (project.root / "new").write_text("a = 3\n")
    (project.root / "new").replace(project.root / "settings.toml")  # as editors do
    project.back("api", before)
    assert 0 < _inotify_watches(project.client.status().supervisor.pid) < 50


def _inotify_watches(pid: int) -> int:
    found = 0
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += path.read_text().count("inotify wd:")
    return found


def test_probes_go_on_while_watched_files_are_read() -> None:
    definition = Definition(name="api", command=("api",), watch=("src/*.py",))
    launch = Launch(command=("api",), watched={"src/app.py": "0123"})
    going_on = threading.Event()

    def reads(found: Definition) -> Launch:
        assert going_on.wait(20)
        return launch

    async def both() -> None:
        slot: Any = SimpleNamespace(definition=definition, context=SimpleNamespace(resolve=reads))
        asyncio.get_running_loop().call_later(0.01, going_on.set)
        assert await resolve(slot) == launch
        going_on.clear()
        asyncio.get_running_loop().call_later(0.01, going_on.set)
        resolved = await resolving(reads, [definition])
        going_on.clear()
        assert resolved(definition) == launch

    asyncio.run(both())
