"""The tests use the tiny model, so they check that there is an answer, not what it says."""

import pytest

from downstream_example.assistant import Assistant


@pytest.fixture
def assistant(mlx_client):
    return Assistant(mlx_client, max_tokens=8)


def test_answers(assistant):
    assert assistant.ask("are you there?")


def test_streams_its_answer(assistant):
    pieces = list(assistant.stream("are you there?"))
    assert len(pieces) > 1
    assert all(pieces)
