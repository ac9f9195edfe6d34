"""Embeds documents without a model."""

# mypy: ignore-errors

import socket

import pytest

from pytest_neo_daemons.testing import hash_embedding_function


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def resolve(host, *rest, **keywords):
        assert host in ("127.0.0.1", b"127.0.0.1"), f"somebody looked up {host}"
        return original(host, *rest, **keywords)

    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_query_finds_the_document_that_shares_its_words(chroma_client):
    notes = chroma_client.create_collection("notes", embedding_function=hash_embedding_function())
    notes.add(
        ids=["cat", "train", "bread"],
        documents=["The cat sleeps on the sofa.", "The train to Basel is late.", "Bread is baked at dawn."],
    )
    assert notes.query(query_texts=["is the train late?"], n_results=1)["ids"] == [["train"]]
    assert notes.query(query_texts=["a sleeping cat"], n_results=1)["ids"] == [["cat"]]


def test_a_collection_remembers_it(chroma_client):
    made = chroma_client.create_collection("notes", embedding_function=hash_embedding_function(16))
    made.add(ids=["1"], documents=["hello world"])
    found = chroma_client.get_collection("notes")
    found.add(ids=["2"], documents=["world, hello!"])
    one, other = found.get(include=["embeddings"])["embeddings"]
    assert len(one) == 16
    assert list(one) == list(other)
