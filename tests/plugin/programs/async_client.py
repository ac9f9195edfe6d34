"""Uses the asynchronous client again and again, under the plugin that the run has."""

# mypy: ignore-errors

import json
import os
import urllib.request

import pytest

MARK = getattr(pytest.mark, os.environ["MARK"])
DESCRIPTORS = []


@MARK
@pytest.mark.parametrize("number", range(4))
async def test_client(chroma_async_client, number):
    notes = await chroma_async_client.create_collection("notes", embedding_function=None)
    await notes.add(ids=["1"], embeddings=[[1.0, 2.0]])
    assert await notes.count() == 1
    DESCRIPTORS.append(len(os.listdir("/proc/self/fd")))


def test_left(chroma):
    assert DESCRIPTORS[-1] == DESCRIPTORS[1], DESCRIPTORS
    url = f"{chroma.url}/api/v2/tenants/default_tenant/databases"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as answer:
        assert [database["name"] for database in json.load(answer)] == ["default_database"]
