"""What the plugin gives to tests of programs that use chroma, with the real chroma and with others of its kind."""

from __future__ import annotations

import json
import shutil
import sys

import pytest

from tests.harness import free_port

from .inner import MODES, PROGRAMS, Inner, messages
from .test_clients import HOSTILE

pytestmark = pytest.mark.long
V2 = [sys.executable, "-IS", str(PROGRAMS / "speaks_v2.py"), "${port}"]


@pytest.mark.real
@MODES
def test_databases_are_unique_for_each_worker_and_dropped_in_the_end(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(chroma={})
    inner.copy("databases.py", "test_databases.py")
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 12}, outcome.text
    left = [json.loads(path.read_text()) for path in inner.root.glob("left-*")]
    assert len(left) == (2 if mode else 1)
    created = [name for name, _ in left if name]
    assert len(set(created)) == len(created) >= 1
    for name, names in left:
        assert name not in names


@pytest.mark.real
@pytest.mark.parametrize("plugin", ["asyncio", "anyio", "anyio beside asyncio"])
def test_the_async_client_works_with_the_plugin_that_the_run_has(inner: Inner, plugin: str) -> None:
    kept = {"asyncio": ("asyncio",), "anyio": ("anyio",)}.get(plugin, ("asyncio", "anyio"))
    inner.without = tuple(name for name in inner.without if name not in kept)
    inner.env |= {**HOSTILE, "MARK": plugin.partition(" ")[0]}
    inner.configure(chroma={})
    inner.write("conftest.py", "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    inner.copy("async_client.py", "test_client.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 5}, outcome.text


@pytest.mark.real
def test_without_a_plugin_for_asynchronous_tests_the_async_client_says_so(inner: Inner) -> None:
    inner.configure(chroma={})
    inner.write("test_client.py", "def test_client(chroma_async_client): pass\n")
    outcome = inner.run()
    assert outcome.counts() == {"error": 1}, outcome.text
    assert "chroma_async_client requires a plugin for asynchronous tests" in messages(outcome)["test_client"]


@pytest.mark.real
def test_the_embedding_function_needs_no_model(inner: Inner) -> None:
    inner.configure(chroma={})
    inner.copy("embedding.py", "test_embedding.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 2}, outcome.text


RESET = """
    import pytest

    def test_reset(chroma_client):
        chroma_client.create_collection("notes", embedding_function=None)
        assert chroma_client.reset()

    def test_where_it_is(chroma):
        assert (chroma.data_dir / "chroma.sqlite3").is_file()
"""


@pytest.mark.real
def test_settings_become_the_configuration_of_chroma(inner: Inner) -> None:
    inner.env |= {"CHROMA_PORT": "8000", "CHROMA_ALLOW_RESET": "false", "CHROMA_PERSIST_PATH": "/nonexistent"}
    inner.configure(chroma={"settings": {"allow_reset": True, "cors_allow_origins": ["*"]}})
    inner.write("test_reset.py", RESET)
    outcome = inner.run()
    assert outcome.counts() == {"passed": 2}, outcome.text
    inner.configure(chroma={"settings": {"allow_reset": False}})
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1, "failed": 1}, outcome.text


@pytest.mark.real
def test_what_chroma_refuses_is_in_the_error(inner: Inner) -> None:
    inner.configure(chroma={"settings": {"allow_reset": "perhaps"}})
    inner.write("test_reset.py", RESET)
    outcome = inner.run()
    assert outcome.counts() == {"error": 2}, outcome.text
    said = messages(outcome)["test_reset"]
    assert 'Error loading config: invalid type: found string "perhaps", expected a boolean' in said


@pytest.mark.real  # its client
def test_another_program_that_speaks_api_v2_takes_the_place_of_chroma(inner: Inner) -> None:
    inner.configure(chroma={"command": V2})
    inner.write(
        "test_other.py",
        """
        def test_client(chroma_client, chroma):
            assert chroma_client.get_version() == "9.9.9"
            assert chroma.env == {
                "CHROMA_HOST": chroma.host, "CHROMA_PORT": str(chroma.port), "CHROMA_URL": chroma.url
            }

        def test_own(new_daemon, chroma_database):
            own = new_daemon("chroma")
            assert chroma_database(daemon=own).client().get_version() == "9.9.9"
        """,
    )
    outcome = inner.run("-n", "2")
    assert outcome.counts() == {"passed": 2}, outcome.text


@pytest.mark.real  # its client
def test_an_error_of_a_server_is_told_from_another_api(inner: Inner) -> None:
    inner.write("test_other.py", "def test_client(chroma_client): pass\n")
    inner.configure(chroma={"command": [*V2, "broken"]})
    outcome = inner.run()
    assert outcome.counts() == {"error": 1}, outcome.text
    said = messages(outcome)["test_client"]
    assert "status 500" in said
    assert "the disk is full" in said
    assert "API v2 of chroma" not in said
    inner.configure(chroma={"command": [*V2, "no-databases"]})
    outcome = inner.run()
    assert outcome.counts() == {"error": 1}, outcome.text
    said = messages(outcome)["test_client"]
    assert "chroma cannot create a database: POST /api/v2/tenants/default_tenant/databases" in said
    assert "status 404" in said
    assert "tests need a server with API v2 of chroma" in said


def test_a_database_is_dropped_once(inner: Inner) -> None:
    inner.configure(chroma={"command": V2})
    inner.write(
        "test_other.py",
        """
        import pathlib, pytest

        @pytest.fixture(scope="session", autouse=True)
        def before(chroma):
            yield
            pathlib.Path("log").write_text(chroma.logs(1000))

        def test_database(chroma_database):
            chroma_database("left")
            with chroma_database("block") as database:
                database.drop()
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text
    removed = [line for line in (inner.root / "log").read_text().splitlines() if '"DELETE ' in line]
    assert [line.partition("/databases/")[2].partition("-")[0] for line in removed] == ["block", "left"]


@pytest.mark.real
def test_chroma_at_another_path_is_chroma(inner: Inner) -> None:
    script = shutil.which("chroma")
    assert script is not None
    inner.configure(chroma={"command": [script, "run", "--path", "${data_dir}", "--port", "${port}"]})
    inner.write("test_other.py", "def test_client(chroma_client):\n    assert chroma_client.heartbeat()\n")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text


@pytest.mark.real  # its client
def test_a_program_with_a_port_of_its_own_keeps_it(inner: Inner) -> None:
    port = free_port()
    inner.configure(chroma={"command": [*V2[:-1], str(port)], "port": port})
    inner.write("test_other.py", f"def test_port(chroma_client, chroma):\n    assert chroma.port == {port}\n")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text
