"""`init`: what it finds in a project, and that what it writes is a configuration."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neo_daemons.cli import main
from neo_daemons.cli.init import compose, survey
from neo_daemons.cli.init.writing import text
from neo_daemons.config import load
from neo_daemons.config.json_schema import FILE

from .config.accepted import objections

PROCFILE = """\
# what Heroku runs
web: python -m http.server --bind 0.0.0.0 $PORT
worker: QUEUE=high python worker.py --cost 5
every: while true; do echo "$HOME"; sleep 1; done
release: python manage.py migrate
chroma: chroma run
a line without a colon
"""
COMPOSE = """\
services:
  db:
    image: postgres:16
    volumes: ["data:/var/lib/postgresql"]
  vectors:
    image: chromadb/chroma:1.0
  app:
    build: .
    command: python -m http.server 8000
    ports: ["8080:8000", "53:53/udp"]
    depends_on:
      db: {condition: service_healthy}
      vectors: {condition: service_started}
    environment:
      - DATABASE_URL=postgres://db:5432/x
      - LEVEL=${LEVEL:-info}
      - PRICE=$$1
      - TOKEN=$TOKEN
    healthcheck:
      test: curl -f localhost:8000 || exit 1
      interval: 5s
    restart: "no"
    stop_grace_period: 1m30s
  debug:
    command: ["python", "-m", "debug"]
    profiles: [Tools]
volumes: {data: {}}
"""
CONFTEST = """\
import subprocess, sys, pytest

@pytest.fixture(scope="session")
def search_server(free_port):
    process = subprocess.Popen([sys.executable, "-m", "search", "--port", str(free_port), "$x"])
    yield process
    process.kill()

def helper():
    return subprocess.Popen(["x"])
"""


def written(root: Path) -> str:
    """Return what `init` writes in a project."""
    return text(*survey(root), FILE.name)


def tables(root: Path) -> dict[str, Any]:
    """Return the daemons of what `init` writes, which the program and the schema accept."""
    content = written(root)
    assert objections(content) == []
    (root / "neo-daemons.toml").write_text(content)
    loaded = load(root / "neo-daemons.toml", environ={})
    found: dict[str, Any] = tomllib.loads(content).get("daemons", {})
    assert not found or [definition.name for definition in loaded.definitions] == [*found]
    (root / "neo-daemons.toml").unlink()
    return found


@pytest.fixture(autouse=True)
def _no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed, whatever is."""
    monkeypatch.setattr("neo_daemons.cli.init.sources.importlib.util.find_spec", lambda name: None)


def test_the_lines_of_a_procfile_become_daemons(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text(PROCFILE)
    (tmp_path / ".env").touch()
    assert tables(tmp_path) == {
        "web": {
            "command": ["python", "-m", "http.server", "--bind", "0.0.0.0", "${port}"],
            "port": "auto",
            "env": {"PORT": "${port}"},
        },
        "worker": {"command": ["python", "worker.py", "--cost", "5"], "env": {"QUEUE": "high"}},
        "every": {"command": ["sh", "-c", 'while true; do echo "$$HOME"; sleep 1; done']},
        "release": {"command": ["python", "manage.py", "migrate"], "oneshot": True},
        "chroma": {},
    }
    content = written(tmp_path)
    assert "# Procfile, line 7: not carried over: a line without a colon\n" in content
    assert "# chroma is built in, and needs no command; this was: chroma run\n" in content
    assert "# .env is not read here" in content


def test_services_of_a_compose_file_become_daemons_as_far_as_they_can(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    assert tables(tmp_path) == {
        "chroma": {},
        "app": {
            "command": ["python", "-m", "http.server", "8000"],
            "env": {"DATABASE_URL": "postgres://db:5432/x", "LEVEL": "info", "PRICE": "$$1"},
            "port": 8000,
            "ready": {"type": "exec", "command": ["sh", "-c", "curl -f localhost:8000 || exit 1"]},
            "requires": ["chroma"],
            "restart": "never",
            "stop": {"grace_s": 90},
        },
        "debug": {"command": ["python", "-m", "debug"], "groups": ["tools"], "enabled": False},
    }
    content = written(tmp_path)
    for said in (
        "# what the image postgres:16 runs has to be said here\n",
        "# [daemons.db]\n",
        "# not carried over: volumes\n",
        "# compose.yaml: not carried over: volumes\n",
        "# not carried over: ports: 53:53/udp\n",
        "# not carried over: the variable TOKEN, which needs TOKEN",
        "# not carried over: interval of healthcheck\n",
        "# requires db: not carried over, as there is no such daemon here\n",
        "# DATABASE_URL names db, a host of Compose",
    ):
        assert said in content


def test_without_a_parser_of_yaml_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker-compose.yml").write_text("services: {}")

    def missing(content: str) -> None:
        raise ImportError

    monkeypatch.setattr(compose, "_parse", missing)
    assert "# docker-compose.yml was not read: that takes PyYAML (pip install pyyaml)\n" in written(tmp_path)


@pytest.mark.parametrize("content", ["services: [", "services: 3", "- 1", "a: &a [*a]", ""])
def test_what_is_no_compose_file_is_a_comment(tmp_path: Path, content: str) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "compose.yaml").write_text(content)
    assert tables(tmp_path) == {}
    assert "# compose.yaml was not read: " in written(tmp_path)


def test_packages_applications_and_fixtures_are_found(tmp_path: Path) -> None:
    (tmp_path / "requirements-dev.txt").write_text("chromadb>=1\nmlx-lm-extras\nneo-daemons[watch, mlx]\n")
    (tmp_path / "package.json").write_text(
        json.dumps({"dependencies": {"neo.mjs": "13"}, "scripts": {"start": "node server.js"}})
    )
    (tmp_path / "src" / "shop").mkdir(parents=True)
    (tmp_path / "src" / "shop" / "main.py").write_text("from fastapi import FastAPI\n\napi = FastAPI()\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    assert tables(tmp_path) == {
        "chroma": {},
        "mlx": {},
        "bridge": {},
        "api": {
            "command": [
                *("uvicorn", "shop.main:api", "--host", "${host}", "--port", "${port}"),
                *("--app-dir", "src"),
            ],
            "port": "auto",
            "ready": {"type": "tcp"},
        },
    }
    content = written(tmp_path)
    assert '# [daemons.web]\n# command = ["npm", "run", "start"]\n' in content
    assert '# command = ["${python}", "-m", "search", "--port", "${port}", "$$x"]\n' in content
    assert "helper" not in content


def test_a_package_counts_that_is_named_or_imported_or_the_only_thing_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neo_daemons.cli.init.sources.importlib.util.find_spec", lambda name: "installed")
    assert [*tables(tmp_path)] == ["chroma", "mlx"]
    (tmp_path / "app.py").write_text("import os\n\nimport chromadb\n")
    assert [*tables(tmp_path)] == ["chroma"]
    content = written(tmp_path)
    assert "# app.py imports chromadb\n[daemons.chroma]\n" in content
    assert "# nothing in the project names it: use it if the project does\n# [daemons.mlx]\n" in content


def test_two_daemons_have_neither_one_name_nor_one_port(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "Procfile").write_text("app: python -m app\n")
    service = '{command: ["python"], ports: [8000], depends_on: [%s]}'
    services = {"app": service % "", "a": service % "b", "b": service % "a", "c": service % "a"}
    (tmp_path / "compose.yml").write_text("services:\n" + "".join(f"  {k}: {v}\n" for k, v in services.items()))
    found = tables(tmp_path)
    assert {name: table.get("port") for name, table in found.items()} == {
        "app": None,
        "a": 8000,
        "b": "auto",
        "c": "auto",
    }
    assert (found["b"]["requires"], found["c"]["requires"]) == (["a"], ["a"])
    assert "the name is that of the daemon found in Procfile, line 1: choose another" in written(tmp_path)


def test_an_empty_project_gets_a_file_that_changes_nothing(tmp_path: Path) -> None:
    assert tables(tmp_path) == {}
    assert "# [daemons.api]" in written(tmp_path)


WORDS = st.sampled_from(
    ["python", "$PORT", "${PORT}", "$HOME", "a b", "'", '"', "\\", "&&", "A=1", "é\x7f\x01", "\0", "…"]
)
LINES = st.lists(
    st.tuples(st.text(max_size=4) | st.sampled_from(["web", "release", "mlx"]), st.lists(WORDS, max_size=4))
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.sampled_from(["test", "target"]), inner, max_size=2)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        *("image", "build", "command", "entrypoint", "environment", "ports", "depends_on", "healthcheck", "restart"),
        *("stop_signal", "stop_grace_period", "profiles", "working_dir", "volumes"),
    ]
)
SERVICES = st.dictionaries(
    st.sampled_from(["app", "db", "B b", "mlx", "1", "a" * 70]),
    VALUES
    | st.dictionaries(KEYS, VALUES | st.sampled_from(["redis:7", "chroma", "python x", ["app"], "10s"]), max_size=6),
    max_size=4,
)


@pytest.mark.long
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(lines=LINES, services=SERVICES)
def test_whatever_it_finds_it_writes_a_configuration(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, list[str]]], services: dict[str, Any]
) -> None:
    yaml = pytest.importorskip("yaml")
    root = tmp_path_factory.mktemp("any")
    content = "".join(f"{name}: {' '.join(words)}\n" for name, words in lines)
    (root / "Procfile").write_text(content, errors="replace")
    (root / "compose.yaml").write_text(yaml.safe_dump({"services": services}), errors="replace")
    tables(root)


def test_it_writes_both_files_once_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Procfile").write_text("worker: python worker.py\n")
    assert main(["init", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["Procfile"]
    assert "nothing was written" in shown.err
    (tmp_path / FILE.name).write_text("mine")
    assert main(["init"]) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "neo-daemons.toml").read_text() == shown.out
    assert shown.out.startswith(f"#:schema ./{FILE.name}\n")
    assert (tmp_path / FILE.name).read_text() == "mine"
    assert "worker: Procfile, line 1" in said
    assert "neo-daemons up" in said
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert main(["init"]) == 1
    refused = capsys.readouterr().err
    assert refused.startswith(f"neo-daemons: this project has a configuration already: {tmp_path}/neo-daemons.toml;")
    assert list((tmp_path / "below").iterdir()) == []


def test_it_leaves_the_table_of_a_pyproject_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.neo_daemons]\nparallel = 1\n")
    assert main(["init"]) == 1
    assert f"already: {tmp_path}/pyproject.toml" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_schema_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == FILE.read_text()
    assert main(["schema", "--pyproject", "-o", str(tmp_path / "x.json")]) == 0
    assert "tool" in json.loads((tmp_path / "x.json").read_text())["properties"]
