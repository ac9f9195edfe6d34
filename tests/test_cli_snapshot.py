"""`snapshot` and `restore`: the data of a daemon of a `serve`, as one file."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.harness import FAST, PROGRAMS, Project, free_port

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
    done(served, "restore", "api", "one.tar.gz")
    assert served.daemon("api").state == "stopped"


def test_without_a_supervisor_a_snapshot_is_restored_into_an_empty_project(served: Project, tmp_path: Path) -> None:
    add(served, "one")
    served.stop()
    done(served, "snapshot", "api", "one.tar.gz")
    (served.root / "data" / "records.json").unlink()
    done(served, "restore", "api", "one.tar.gz")
    assert beside(served) == ["data"]
    served.serve()
    served.reaches("api", "ready")
    assert records(served) == ["one"]


def test_a_daemon_whose_supervisor_was_killed_is_neither_copied_nor_replaced(served: Project) -> None:
    add(served, "one")
    done(served, "snapshot", "api", "one.tar.gz")
    served.kill_supervisor()
    for arguments in (("snapshot", "api"), ("restore", "api", "one.tar.gz")):
        assert "is in use by daemon api" in refused(served, *arguments)
    assert beside(served) == ["data"]
    served.serve()  # adopts it, to end it with the test


def test_a_fall_by_more_than_half_needs_force(served: Project) -> None:
    add(served, "x" * 1000)
    done(served, "snapshot", "api")
    served.run("stop", "api")
    (served.root / "data" / "records.json").write_text("[]")
    said = refused(served, "snapshot", "api", "small.tar.gz")
    assert "api now has 1 files, 2 bytes, but 1 files, 1,004 bytes in the snapshot before" in said
    assert "bytes fell by more than half" in said
    assert not (served.root / "small.tar.gz").exists()
    assert beside(served) == ["data"]
    assert "before: 1 files, 1,004 bytes" in done(served, "snapshot", "api", "small.tar.gz", "--force")


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
