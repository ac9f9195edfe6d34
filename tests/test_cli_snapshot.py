"""`snapshot` and `restore`: the data of a daemon of a `serve`, as one file."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.seeds import archive
from neo_daemons.seeds.manifest import RESTORED
from tests.harness import FAST, PATIENCE_S, PROGRAMS, Project, free_port, in_namespace

pytestmark = pytest.mark.long

STORE = [sys.executable, "-IS", str(PROGRAMS / "store.py"), "${port}", "${data_dir}"]


def table(**settings: Any) -> dict[str, Any]:
    return {
        "command": STORE,
        "port": "auto",
        "data_dir": "data",
        "ready": {"type": "http", "path": "/"},
        **settings,
    }


def add(project: Project, *texts: str) -> None:
    url = str(project.daemon("api").url)
    for text in texts:
        urllib.request.urlopen(url, text.encode(), timeout=20).close()


def records(project: Project) -> list[str]:
    with urllib.request.urlopen(str(project.daemon("api").url), timeout=20) as answer:
        found: list[str] = json.load(answer)
        return found


@pytest.fixture
def served(project: Project) -> Project:
    project.configure(api=table())
    project.serve()
    project.reaches("api", "ready")
    return project


def snapshots(project: Project) -> list[Path]:
    return sorted((project.state.path / "snapshots").glob("*.tar.gz"))


def beside(project: Project) -> list[str]:
    """What is in the project's directory that was not there before any snapshot."""
    return sorted(path.name for path in project.root.iterdir() if "data" in path.name)


def done(project: Project, *arguments: str) -> str:
    completed = project.run(*arguments)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def refused(project: Project, *arguments: str) -> str:
    completed = project.run(*arguments)
    assert completed.returncode == 1, completed.stdout + completed.stderr
    assert "Traceback" not in completed.stderr
    return completed.stderr


def test_a_running_daemon_is_stopped_copied_and_started_and_its_data_comes_back(served: Project) -> None:
    add(served, "one", "two")
    pid = served.daemon("api").pid
    said = done(served, "snapshot", "api")
    (path,) = snapshots(served)
    assert f"{path}: 1 files, 14 bytes" in said
    assert "started api: ready" in said
    assert served.daemon("api").pid != pid
    add(served, "three")
    said = done(served, "restore", "api", str(path))
    assert records(served) == ["one", "two"]
    (old,) = [name for name in beside(served) if ".before-" in name]
    assert f"the data before is in {served.root / old}" in said
    assert json.loads((served.root / old / "records.json").read_text()) == ["one", "two", "three"]
    assert beside(served) == ["data", old]
    assert [path.suffix for path in (served.state.path / "snapshots").iterdir()].count(".partial") == 0


def test_a_stopped_daemon_stays_stopped(served: Project) -> None:
    add(served, "one")
    served.run("stop", "api")
    done(served, "snapshot", "api", "one.tar.gz")
    said = done(served, "restore", "api", "one.tar.gz")
    assert "api is stopped, as before; start it: neo-daemons start api" in said
    assert served.daemon("api").state == "stopped"


def test_without_a_supervisor_a_snapshot_is_restored_into_an_empty_project(served: Project, tmp_path: Path) -> None:
    add(served, "one")
    served.stop()
    (served.root / "data").chmod(0o750)
    left = served.state.path / "snapshots" / f".api-20260301T101500Z.tar.gz.01234567{archive.UNFINISHED}"
    left.parent.mkdir()
    left.touch()
    done(served, "snapshot", "api", "one.tar.gz")
    assert not left.exists()
    (served.root / "data" / "records.json").unlink()
    done(served, "restore", "api", "one.tar.gz")
    assert beside(served) == ["data"]
    assert (served.root / "data").stat().st_mode & 0o777 == 0o750
    served.serve()
    served.reaches("api", "ready")
    assert records(served) == ["one"]


CLOSES = "import os, sys; os.closerange(3, 4096); os.execv(sys.executable, [sys.executable, '-IS', *sys.argv[1:]])"
"""A program that closes the locks which it inherits, and becomes another."""


@pytest.mark.parametrize("closes", [False, True])
def test_a_daemon_whose_supervisor_was_killed_is_neither_copied_nor_replaced(project: Project, closes: bool) -> None:
    project.configure(api=table(command=[sys.executable, "-IS", "-c", CLOSES, *STORE[2:]] if closes else STORE))
    project.serve()
    project.reaches("api", "ready")
    add(project, "one")
    done(project, "snapshot", "api", "one.tar.gz")
    pid = project.daemon("api").pid
    project.kill_supervisor()
    holder = f"api, pid {pid}" if closes else f"daemon api of {project.state.path}"
    for arguments in (("snapshot", "api"), ("restore", "api", "one.tar.gz")):
        assert f"is in use by {holder}; stop it: neo-daemons reap" in refused(project, *arguments)
    assert beside(project) == ["data"]
    project.serve()  # adopts it, to end it with the test
    assert project.daemon("api").pid == pid


def fill(project: Project, records: int) -> None:
    """Make the data look like that of chroma."""
    with contextlib.closing(sqlite3.connect(project.root / "data" / "chroma.sqlite3")) as database:
        for statement in ("collections (id)", "segments (id, scope)", "embeddings (id, segment_id)"):
            database.execute(f"DROP TABLE IF EXISTS {statement.partition(' ')[0]}")
            database.execute(f"CREATE TABLE {statement}")
        database.execute("INSERT INTO collections VALUES (1)")
        database.execute("INSERT INTO segments VALUES ('s', 'METADATA')")
        database.executemany("INSERT INTO embeddings VALUES (?, 's')", [(number,) for number in range(records)])
        database.commit()


def test_a_fall_by_more_than_half_needs_force_and_is_noticed_before_the_daemon_is_stopped(served: Project) -> None:
    fill(served, 10)
    assert "1 collections, 10 records" in done(served, "snapshot", "api")
    fill(served, 4)
    pid = served.daemon("api").pid
    said = refused(served, "snapshot", "api", "small.tar.gz")
    assert "api now has 1 collections, 4 records, but 1 collections, 10 records in the snapshot before" in said
    assert "records fell by more than half" in said
    assert served.daemon("api").pid == pid
    assert not (served.root / "small.tar.gz").exists()
    assert beside(served) == ["data"]
    assert "before: 1 collections, 10 records" in done(served, "snapshot", "api", "small.tar.gz", "--force")
    done(served, "snapshot", "api", "next.tar.gz")


def test_a_fall_that_cannot_be_seen_while_the_daemon_runs_is_noticed_in_the_copy(served: Project) -> None:
    fill(served, 10)
    done(served, "snapshot", "api")
    fill(served, 4)
    pid = served.daemon("api").pid
    with contextlib.closing(sqlite3.connect(served.root / "data" / "chroma.sqlite3")) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert "records fell by more than half" in refused(served, "snapshot", "api", "small.tar.gz")
    assert served.daemon("api").pid != pid
    assert not (served.root / "small.tar.gz").exists()


def test_nothing_but_an_earlier_snapshot_of_the_same_data_is_compared(served: Project, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other")
    other.configure(api=table())
    for project, records in ((served, 10), (other, 1)):
        (project.root / "data").mkdir(exist_ok=True)
        fill(project, records)
    done(served, "snapshot", "api", str(tmp_path / "a.tar.gz"))
    assert "before" not in done(other, "snapshot", "api", str(tmp_path / "b.tar.gz"))


def test_data_that_was_compacted_goes_into_a_snapshot(served: Project) -> None:
    add(served, "x" * 1000)
    done(served, "snapshot", "api")
    served.run("stop", "api")
    (served.root / "data" / "records.json").write_text("[]")
    assert "before: 1 files, 1,004 bytes" in done(served, "snapshot", "api", "small.tar.gz")


def test_an_empty_store_needs_force(served: Project) -> None:
    served.run("stop", "api")
    (served.root / "data" / "records.json").unlink()
    assert "is empty; if that is right, run this again with --force" in refused(served, "snapshot", "api")
    assert "nothing counted" not in done(served, "snapshot", "api", "--force")


@pytest.mark.parametrize("why", ["parent", "mount"])
def test_data_beside_which_nothing_can_be_written_is_copied_elsewhere_and_not_replaced(
    project: Project, why: str
) -> None:
    project.configure(api=table(data_dir="parent/data"))
    project.serve()
    project.reaches("api", "ready")
    add(project, "one")
    project.stop()
    data = "mount --bind parent/data parent/data"
    here = data if why == "mount" else f"mount --bind parent parent && {data} && mount -o remount,ro,bind parent"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*in_namespace(here), sys.executable, "-m", "neo_daemons", *arguments]
        return subprocess.run(
            command, cwd=project.root, env=project.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )

    made = run("snapshot", "api", "one.tar.gz")
    assert made.returncode == 0, made.stderr
    assert not [*project.state.path.glob("snapshots/.*.partial")]
    replaced = run("restore", "api", "one.tar.gz")
    assert replaced.returncode == 1
    assert f"cannot restore api: {project.root}/parent/data is a mount point" in replaced.stderr
    done(project, "restore", "api", "one.tar.gz")


def test_a_parent_that_cannot_be_written_is_named_before_the_daemon_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    script = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    code = "from neo_daemons.seeds.replacing import *; import sys; print(obstacle(Path(sys.argv[1])))"
    command = [*in_namespace(script), sys.executable, "-c", code, str(tmp_path / "data")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    assert f"{tmp_path} cannot be written" in said


def test_a_link_to_the_data_stays_a_link(project: Project) -> None:
    (project.root / "disk").mkdir()
    (project.root / "data").symlink_to("disk/api")
    (project.root / "disk" / "api").mkdir()
    (project.root / "disk" / "api" / "records.json").write_text('["one"]')
    project.configure(api=table())
    done(project, "snapshot", "api", "one.tar.gz")
    (project.root / "disk" / "api" / "records.json").write_text("[]")
    done(project, "restore", "api", "one.tar.gz")
    assert (project.root / "data").is_symlink()
    assert json.loads((project.root / "disk" / "api" / "records.json").read_text()) == ["one"]


def test_an_interrupted_snapshot_starts_the_daemon_again(project: Project) -> None:
    project.configure(api=table(command=[*STORE, "stubborn"], stop={"grace_s": 3.0}))
    project.serve()
    project.reaches("api", "ready")
    pid = project.daemon("api").pid
    command = [sys.executable, "-m", "neo_daemons", "snapshot", "api"]
    with subprocess.Popen(command, cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True) as child:
        project.reaches("api", "stopping")
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130
    project.reaches("api", "ready")
    assert project.daemon("api").pid != pid


def test_a_parked_daemon_is_started_on_restored_data(project: Project) -> None:
    guarded = ["sh", "-c", 'grep -q broken "$$0/records.json" && exit 1; exec "$$@"', "${data_dir}", *STORE]
    project.configure(api=table(command=guarded, restart={**FAST, "limit": 2}))
    project.serve()
    project.reaches("api", "ready")
    add(project, "one")
    done(project, "snapshot", "api", "one.tar.gz")
    project.run("stop", "api")
    (project.root / "data" / "records.json").write_text('["broken"]')
    project.run("start", "api")
    project.reaches("api", "parked")
    done(project, "snapshot", "api", "broken.tar.gz")
    assert project.daemon("api").state == "parked"
    assert "started api: ready" in done(project, "restore", "api", "one.tar.gz")
    assert records(project) == ["one"]


def test_the_supervisor_ends_a_restore_that_was_killed_without_a_data_directory(served: Project) -> None:
    add(served, "old")
    served.stop()
    moment = "20260301T101500Z-0123"
    (served.root / "data").rename(served.root / f"data.before-{moment}")
    new = served.root / f".data.restored-{moment}"
    new.mkdir()
    (new / RESTORED).touch()
    (new / "records.json").write_text('["new"]')
    served.serve()
    served.reaches("api", "ready")
    assert records(served) == ["new"]
    assert beside(served) == ["data", f"data.before-{moment}"]


def test_a_damaged_snapshot_is_refused_before_the_daemon_is_touched(served: Project) -> None:
    add(served, "one")
    done(served, "snapshot", "api", "one.tar.gz")
    path = served.root / "one.tar.gz"
    path.write_bytes(path.read_bytes()[:-40])
    pid = served.daemon("api").pid
    assert "one.tar.gz is damaged" in refused(served, "restore", "api", "one.tar.gz")
    assert served.daemon("api").pid == pid
    assert beside(served) == ["data"]


def test_what_cannot_be_copied_is_said(project: Project) -> None:
    project.configure(
        api=table(),
        bare={"command": [sys.executable, "-c", "input()"], "enabled": False},
        far={"external": f"http://127.0.0.1:{free_port()}"},
    )
    (project.root / "file").write_text("x")
    for arguments, words in (
        (("snapshot", "ape"), "unknown daemon 'ape'; configured daemons: api, bare, far"),
        (("snapshot", "api"), "api has no data"),
        (("snapshot", "bare"), "bare has no data directory; set daemons.bare.data_dir"),
        (("snapshot", "far"), "far is external"),
        (("snapshot", "api", "file"), "file exists"),
        (("snapshot", "api", "no/file"), "is not a directory"),
        (("restore", "api", "missing"), "missing is not a file"),
        (("restore", "api", "file"), "file is damaged, or not a snapshot"),
    ):
        assert words in refused(project, *arguments)
    assert not (project.root / "data").exists()


def test_a_snapshot_of_another_daemon_needs_force(served: Project) -> None:
    add(served, "one")
    done(served, "snapshot", "api", "one.tar.gz")
    served.stop()
    served.configure(api=table(), other=table(data_dir="other-data"))
    assert "is a snapshot of api, not of other" in refused(served, "restore", "other", "one.tar.gz")
    done(served, "restore", "other", "one.tar.gz", "--force")
    assert json.loads((served.root / "other-data" / "records.json").read_text()) == ["one"]


def test_a_daemon_that_does_not_start_again_is_an_error(project: Project) -> None:
    guarded = ["sh", "-c", 'test ! -e "$$0" && exec "$$@"', str(project.root / "broken"), *STORE]
    project.configure(api=table(command=guarded, restart={**FAST, "limit": 2}))
    project.serve()
    project.reaches("api", "ready")
    add(project, "one")
    (project.root / "broken").touch()
    said = refused(project, "snapshot", "api", "one.tar.gz")
    assert "api is not ready; see: neo-daemons why api" in said
    assert (project.root / "one.tar.gz").exists()
