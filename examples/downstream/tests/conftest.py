"""What the tests share."""

import msgspec
import pytest

from downstream_example.memory import Memory


def pytest_neo_daemons_definitions(definitions):
    """In tests mlx has its tiny built-in model: no download, noise for answers."""
    definitions["mlx"] = msgspec.structs.replace(definitions["mlx"], options={}, start_grace_s=120.0)


@pytest.fixture
def memory(chroma_client):
    """An empty memory."""
    return Memory(chroma_client)
