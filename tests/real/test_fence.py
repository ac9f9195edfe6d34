"""Tests that want to change a production store, each in another way: it stays the same, and each is told.

The store is that of a real chroma under a real `serve`, with 1,000 records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Project, end_marked, free_port, until
from tests.plugin.inner import PARALLEL, Inner, messages, results

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real_fence"), pytest.mark.timeout(300)]

RECORDS = 1000
HARMLESS = dict.fromkeys(
    ("test_harmless", "test_sqlite_read_only", "test_remove_link", "test_persistent_client_elsewhere"), "passed"
)
OPTIONAL = frozenset({"test_requests"})
"""Skipped where the package is missing."""


class Store:
    """The production store."""

    def __init__(self, project: Project) -> None:
        import chromadb

        self.project = project
        daemon = project.daemon("chroma")
        self.port, self.data = daemon.ports["main"], str(daemon.data_dir)
        self._client = chromadb.HttpClient(host="127.0.0.1", port=self.port)
        collection = self._client.get_or_create_collection("kept", embedding_function=None)
        numbers = range(RECORDS)
        collection.add(
            ids=[str(number) for number in numbers],
            embeddings=[[number / 7, 1.0, float(number % 13)] for number in numbers],
            documents=[f"document {number}" for number in numbers],
        )
        self.collection = str(collection.id)

    def contents(self) -> str:
        """A hash of all records."""
        collection = self._client.get_collection("kept", embedding_function=None)
        found: Any = collection.get(include=["embeddings", "documents"])
        records = sorted(
            (key, [float(x) for x in vector], document)
            for key, vector, document in zip(found["ids"], found["embeddings"], found["documents"], strict=True)
        )
        assert len(records) == RECORDS
        return hashlib.sha256(json.dumps(records).encode()).hexdigest()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    project = Project(tmp_path_factory.mktemp("production"))
    project.configure(chroma={"port": free_port()})
    project.serve()
    project.reaches("chroma", "ready")
    yield Store(project)
    left = project.close()
    end_marked(str(project.root))
    assert not left


@pytest.fixture
def behind(store: Store, tmp_path: Path) -> Iterator[Inner]:
    """A repository whose tests know where production is."""
    inner = Inner(tmp_path)
    inner.configure(api=inner.toy())
    inner.without = tuple(name for name in inner.without if name != "asyncio")
    inner.env |= {"NEO_DAEMONS_REGISTRY": str(store.project.root / "registry"), "PORT": str(store.port)}
    inner.env |= {"DATA": store.data, "COLLECTION": store.collection, "NEO_FENCE": "1"}
    inner.copy("fenced.py", "test_fenced.py")
    with contextlib.closing(inner):
        yield inner
    inner.wait_until_nothing_is_left()


@pytest.mark.parametrize(
    ("mode", "on"),
    [
        pytest.param((), False, id="alone-setting"),
        pytest.param(PARALLEL, True, id="n2-on"),
        pytest.param((), True, marks=pytest.mark.matrix, id="alone-on"),
        pytest.param(PARALLEL, False, marks=pytest.mark.matrix, id="n2-setting"),
    ],
)
def test_whatever_tests_try_the_production_store_stays_the_same_and_each_is_told(
    store: Store, behind: Inner, mode: tuple[str, ...], on: bool
) -> None:
    before = store.contents()
    setting = () if on else ("-o", "neo_daemons_fence=true")
    outcome = behind.run("-o", "asyncio_mode=strict", *setting, *mode, on=on)
    assert store.contents() == before
    found = results(outcome)
    skipped = {name for name in OPTIONAL if found.get(name) == "skipped"}
    told = [name for name in found if name not in HARMLESS and name not in skipped]
    wanted = {name: "error" if name == "test_in_a_fixture" else "failed" for name in told}
    assert len(told) > 20
    assert found == {**wanted, **HARMLESS, **dict.fromkeys(skipped, "skipped")}, outcome.text
    said = messages(outcome)
    for name in told:
        assert "production supervisor in" in said[name], said[name]
        assert str(store.project.state.path) in said[name], name
        assert f"::{name}" in said[name], name
    assert "Use the fixture chroma or chroma_client instead" in said["test_httpx"]
    summary = outcome.text.rpartition(" neo-daemons fence ")[2]
    assert [name for name in told if f"::{name}" not in summary] == [], outcome.text


def test_a_child_without_the_variables_is_told_of(store: Store, behind: Inner) -> None:
    behind.copy("children.py", "children.py")
    behind.write(
        "test_fenced.py",
        f"""
        from children import connect, wait_until_seen

        def test_child(request):
            wait_until_seen(connect({store.port}), request)
        """,
    )
    outcome = behind.run()
    assert results(outcome) == {"test_child": "failed"}, outcome.text
    said = messages(outcome)["test_child"]
    assert f"was connected to port {store.port}, which is chroma of the production supervisor in" in said
    assert "may have changed data" in said


def test_the_store_is_not_fenced_for_tests_that_are_attached_to_it(store: Store, behind: Inner) -> None:
    before = store.contents()
    behind.write("test_fenced.py", f"import httpx\ndef test_get(): httpx.get('http://127.0.0.1:{store.port}')\n")
    state = str(store.project.state.path)
    attached = behind.run(f"--neo-daemons-attach={state}", on=False)
    assert results(attached) == {"test_get": "passed"}, attached.text
    for allowed in ("chroma", state):
        outcome = behind.run("-o", f"neo_daemons_fence_allow={allowed}")
        assert results(outcome) == {"test_get": "passed"}, outcome.text
    assert store.contents() == before


def test_the_registry_has_the_store(store: Store) -> None:
    assert until(lambda: [*(store.project.root / "registry").glob("*.json")], "an entry")
