"""Many small tests of the chroma in a cluster. Each notes how long it was in flight."""

# mypy: ignore-errors

import os
import time
from pathlib import Path

import pytest

PLACE = Path(os.environ["FLIGHTS"])


@pytest.fixture(autouse=True)
def flight(request):
    began = time.time()
    yield
    with (PLACE / f"flights-{os.getpid()}").open("a") as file:
        file.write(f"{request.node.name} {began} {time.time()}\n")


@pytest.mark.parametrize("number", range(int(os.environ["TESTS"])))
def test_small(chroma_client, number):
    notes = chroma_client.create_collection("notes", embedding_function=None)
    notes.add(ids=["1"], embeddings=[[1.0, float(number)]], documents=[str(number)])
    time.sleep(0.05)
    assert notes.get()["documents"] == [str(number)]
    assert notes.count() == 1
