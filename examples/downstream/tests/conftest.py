"""Fixtures that the tests share."""

import msgspec
import pytest

from downstream_example.memory import Memory


def pytest_neo_daemons_definitions(definitions):
    """Use the built-in tiny model of mlx in tests: no download, meaningless answers."""
    definitions["mlx"] = msgspec.structs.replace(definitions["mlx"], options={}, start_grace_s=120.0)


@pytest.fixture
def memory(chroma_client):
    """Return an empty memory."""
    return Memory(chroma_client)
