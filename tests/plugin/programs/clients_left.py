"""Creates clients again and again, and counts descriptors and databases."""

# mypy: ignore-errors

import json
import os
import urllib.request

import pytest

SEEN = []


@pytest.mark.parametrize("number", range(4))
def test_client(chroma_client, chroma, number):
    chroma_client.create_collection("things").add(ids=["1"], embeddings=[[0.0, 1.0]])
    SEEN.append(len(os.listdir("/proc/self/fd")))


def test_left(chroma):
    assert SEEN[-1] == SEEN[1], SEEN
    url = f"{chroma.url}/api/v2/tenants/default_tenant/databases"
    databases = json.load(urllib.request.urlopen(url, timeout=20))
    assert [database["name"] for database in databases] == ["default_database"]
