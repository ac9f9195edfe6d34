"""Seeds and snapshots of the real chroma, with enough records that it indexes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import Project
from tests.plugin.inner import Inner

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real"), pytest.mark.timeout(540)]

RECORDS = 5_000
CLONES = 6
CONFTEST = f"""
import pytest, pytest_neo_daemons
from pytest_neo_daemons.clients import make_chroma

RECORDS, DIMENSIONS, BATCH = {RECORDS}, 64, 1000

def collection(chroma):
    client = make_chroma(chroma.host, chroma.port, "default_database", secure=False)
    return client.get_or_create_collection("documents", embedding_function=None)

def embedding(number):
    return [((number * 31 + dimension * 17) % 997) / 997 for dimension in range(DIMENSIONS)]

@pytest_neo_daemons.seed("chroma")
def documents(chroma):
    made = collection(chroma)
    for start in range(0, RECORDS, BATCH):
        numbers = range(start, start + BATCH)
        made.add(
            ids=[str(number) for number in numbers],
            embeddings=[embedding(number) for number in numbers],
            documents=[f"document {{number}}" for number in numbers],
        )
    return {{"records": made.count(), "collections": 1}}

@pytest.fixture(scope="session")
def chroma_seed():
    return documents
"""
SHARED = """
from conftest import RECORDS, collection, embedding

def test_shared(chroma):
    documents = collection(chroma)
    assert documents.count() == RECORDS
    assert documents.query(query_embeddings=[embedding(7)], n_results=1)["ids"][0]
"""
MANY = """
import pytest
from conftest import RECORDS, collection

@pytest.mark.parametrize("number", range({clones}))
def test_own(new_daemon, number):
    documents = collection(new_daemon("chroma"))
    assert documents.count() == RECORDS
    documents.delete(ids=[str(number)])
    assert documents.count() == RECORDS - 1
"""


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inner]:
    inner = Inner(tmp_path_factory.mktemp("seeds"))
    inner.env["NEO_DAEMONS_CACHE_DIR"] = str(inner.root / "cache")
    inner.configure(chroma={})
    (inner.root / "conftest.py").write_text(CONFTEST)
    (inner.root / "test_shared.py").write_text(SHARED)
    (inner.root / "test_many.py").write_text(MANY.format(clones=CLONES))
    yield inner
    inner.close()
    inner.wait_until_nothing_is_left()


def green(inner: Inner, *arguments: str) -> str:
    outcome = inner.run(*arguments, timeout_s=500)
    assert outcome.code == 0, outcome.text
    return inner.output()


def test_a_later_run_does_not_build_it_again(seeded: Inner) -> None:
    assert "built the seed documents in " in (first := green(seeded, "test_shared.py"))
    assert f" s: {RECORDS:,} records, 1 collections" in first
    assert "built the seed" not in green(seeded, "test_shared.py")


def test_many_clones_in_one_run_are_isolated_and_leave_nothing(seeded: Inner) -> None:
    green(seeded, "test_many.py", "-n", "2")
    assert seeded.left() == []
    assert [path.name for path in seeded.tmp.glob("neo-daemons-*/*")] == []
    names = sorted(path.name for path in (seeded.root / "cache" / "seeds").iterdir())
    assert len(names) == 2, names


def fill(url: str, records: int) -> int:
    """Add collections to chroma by its API. Return the number of records that it should have. The last changes have
    only been acknowledged: nothing has read them."""
    base = f"{url}/api/v2/tenants/default_tenant/databases/default_database/collections"
    with httpx.Client(trust_env=False, timeout=60) as http:

        def post(path: str, body: Any) -> Any:
            return http.post(f"{base}{path}", json=body).raise_for_status().json()

        for name in ("one", "two"):
            made = post("", {"name": f"notes-{name}", "get_or_create": True})
            ids = [str(number) for number in range(records)]
            post(f"/{made['id']}/add", {"ids": ids, "embeddings": [[float(number), 1.0] for number in range(records)]})
        assert count(url) == 2 * records
        for name in ("one", "two"):
            made = post("", {"name": f"notes-{name}", "get_or_create": True})
            post(f"/{made['id']}/delete", {"ids": ["0", "1"]})
            post(f"/{made['id']}/upsert", {"ids": ["2", "new"], "embeddings": [[0.0, 1.0], [0.0, 2.0]]})
    return 2 * (records - 2 + 1)


def count(url: str) -> int:
    base = f"{url}/api/v2/tenants/default_tenant/databases/default_database/collections"
    with httpx.Client(trust_env=False, timeout=60) as http:
        return sum(http.get(f"{base}/{one['id']}/count").json() for one in http.get(base).json())


@pytest.mark.parametrize("records", [10, 2500], ids=["queued", "indexed"])
def test_a_snapshot_counts_the_records_of_chroma_as_chroma_does(project: Project, records: int) -> None:
    project.configure(chroma={"port": "auto"})
    project.serve()
    chroma = project.reaches("chroma", "ready")
    assert chroma.url is not None
    expected = fill(chroma.url, records)
    made = project.run("snapshot", "chroma", "full.tar.gz")
    assert made.returncode == 0, made.stderr
    assert f"full.tar.gz: 2 collections, {expected:,} records" in made.stdout
    url = project.reaches("chroma", "ready").url
    assert url is not None
    assert count(url) == expected
    with httpx.Client(trust_env=False, timeout=60) as http:
        base = f"{url}/api/v2/tenants/default_tenant/databases/default_database/collections"
        for name in ("one", "two"):
            http.delete(f"{base}/notes-{name}").raise_for_status()
    fell = project.run("snapshot", "chroma", "empty.tar.gz")
    assert fell.returncode == 1
    assert f"chroma now has 0 collections, 0 records, but 2 collections, {expected:,} records" in fell.stderr
    assert not Path(project.root / "empty.tar.gz").exists()
    restored = project.run("restore", "chroma", "full.tar.gz")
    assert restored.returncode == 0, restored.stderr
    url = project.reaches("chroma", "ready").url
    assert url is not None
    assert count(url) == expected
    assert json.loads(project.run("status", "--json").stdout)["daemons"][0]["ready"]
