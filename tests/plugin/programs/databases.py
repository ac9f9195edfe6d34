"""Uses databases of the shared chroma, from several modules and workers."""

# mypy: ignore-errors

import json
import os
import urllib.request

import pytest

SEEN = []


def names(chroma):
    with urllib.request.urlopen(f"{chroma.url}/api/v2/tenants/default_tenant/databases", timeout=20) as answer:
        return {database["name"] for database in json.load(answer)}


@pytest.fixture(scope="module")
def books(chroma_database):
    database = chroma_database("books")
    database.client().create_collection("shelf", embedding_function=None).add(ids=["1"], embeddings=[[1.0, 2.0]])
    SEEN.append(database)
    return database


@pytest.mark.parametrize("number", range(6))
def test_a_module_has_a_database_of_its_own(books, number):
    assert books.name.startswith("books-")
    assert books.client().get_collection("shelf", embedding_function=None).count() == 1
    assert books is SEEN[0]


def test_each_call_creates_another(chroma_database, books):
    with chroma_database() as one, chroma_database() as other:
        assert len({one.name, other.name, books.name}) == 3
        assert {one.name, other.name, books.name} <= names(one.daemon)
        one.client().create_collection("shelf", embedding_function=None)
        assert [c.name for c in other.client().list_collections()] == []
    assert not {one.name, other.name} & names(one.daemon)
    assert books.name in names(books.daemon)


def test_in_a_daemon_of_its_own(chroma_database, new_daemon):
    own = new_daemon("chroma")
    database = chroma_database("own", own)
    assert database.name in names(own)
    assert database.client().list_collections() == []


@pytest.mark.parametrize("name", ["_a/b [ä]_", "x" * 600, "..", ""])
def test_any_text_is_a_prefix(chroma_database, request, name):
    for prefix in (name, request.node.name):
        with chroma_database(prefix) as database:
            assert database.client().list_collections() == []
            assert database.name in names(database.daemon)


@pytest.fixture(scope="session", autouse=True)
def left(chroma):
    """Set up before `chroma_database`, and so torn down after it."""
    yield
    with open(f"left-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}", "w") as file:
        json.dump([SEEN and SEEN[0].name, sorted(names(chroma))], file)
