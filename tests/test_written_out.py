"""`doctor --tests`: what a test run cannot isolate is found before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.cli.written_out import written_out
from tests.harness import Project, free_port, toy, until

PORT = 41_017


def told(project: Project, *arguments: str) -> str:
    done = project.run("doctor", "--tests", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == ("problem" in done.stdout), done.stdout
    return done.stdout


def table(**settings: Any) -> dict[str, Any]:
    return {"command": ["serve", "--port", "${port}"], "port": "auto", **settings}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"command": ["serve", "--port", str(PORT)]},
            "command has 41017 written out, the port of this project's store",
        ),
        ({"env": {"STORE": f"http://localhost:{PORT}/v2"}}, "env.STORE has 41017 written out"),
        (
            {"env": {"DATA": "{root}/data/x.sqlite"}},
            "env.DATA leads to {root}/data, which belongs to this project's store",
        ),
        ({"command": ["serve", "./data/x.sqlite"]}, "command leads to {root}/data"),
        ({"command": ["serve", "--db={root}/link/data/x"]}, "command leads to {root}/data, which belongs to"),
        ({"command": ["serve", "-c", "linked.ini"]}, "{root}/linked.ini, line 1, leads to {root}/data"),
        ({"command": ["serve", "-c", "settings.ini"]}, "{root}/settings.ini, line 2, has 41017 written out"),
        ({"env": {"STATE": "{root}/.neo-daemons/logs"}}, "which belongs to this project's state directory"),
        ({"command": ["serve"], "port": PORT + 1}, "port 41018 stays the same in tests"),
    ],
    ids=["command", "url", "path", "relative", "link", "link in file", "file", "state", "fixed"],
)
def test_what_leads_to_production_is_a_problem(project: Project, settings: dict[str, Any], words: str) -> None:
    root = str(project.root.resolve())
    filled = json.loads(json.dumps(settings).replace("{root}", root))
    (project.root / "link").symlink_to(".")
    (project.root / "linked.ini").write_text(f"path: {root}/link/data\n")
    (project.root / "settings.ini").write_text(f"[store]\nport = {PORT}\n")
    project.configure(store=table(port=PORT, data_dir="data"), api=table(**filled))
    assert f"problem  api: {words}".replace("{root}", root).partition("api: ")[2] in told(project)


def test_what_tests_get_by_references_is_none(project: Project) -> None:
    project.configure(
        store=table(port=PORT, data_dir="data"),
        api=table(env={"STORE": "${daemons.store.url}", "TIMEOUT": "30"}),
    )
    assert told(project) == "ok       tests: nothing in the configuration leads a test run to production\n"


def test_a_number_that_may_be_something_else_is_only_noted(project: Project) -> None:
    project.configure(store=table(port=PORT), api=table(env={"LIMIT": str(PORT)}))
    said = told(project)
    assert "note     api: env.LIMIT has 41017 written out" in said
    assert "problem" not in said


def test_a_word_that_may_be_a_path_is_only_noted(project: Project) -> None:
    project.configure(store=table(port=PORT, data_dir="data"), api=table(command=["data", "--db", "data", "data2"]))
    said = told(project)
    assert said.count("note     api: command may lead to ") == 1
    assert "problem" not in said


def test_a_file_that_many_daemons_name_is_read_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO_DAEMONS_REGISTRY", str(project.root / "registry"))
    (project.root / "settings.ini").write_text(f"port = {PORT}\n" * 50)
    project.configure(
        store=table(port=PORT),
        **{f"d{number}": table(command=["serve", "-c", "settings.ini"]) for number in range(30)},
    )
    original, read = Path.read_text, list[Path]()

    def read_text(path: Path, *arguments: Any, **options: Any) -> str:
        read.append(path)
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    found = written_out(project.root / "neo-daemons.toml", None)
    assert len(found) == 30 * 50
    assert [path.name for path in read].count("settings.ini") == 1


def test_every_registered_supervisor_counts(project: Project, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, port = Project(tmp_path / "other"), free_port()
    other.env = project.env
    other.configure(store=toy(port=port))
    other.serve()
    try:
        other.reaches("store", "ready")
        until(lambda: [*(project.root / "registry").glob("*.json")], "the entry")
        project.configure(api=table(env={"STORE": f"http://127.0.0.1:{port}"}))
        assert f"the port of store of {other.state.path}, which is running" in told(project)
    finally:
        assert not other.close()
