"""The embeddings without a model."""

from __future__ import annotations

import math

import pytest

from pytest_neo_daemons.testing import hash_embedding, hash_embedding_function


def likeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(hash_embedding(one), hash_embedding(other), strict=True))


def test_an_embedding_is_the_same_on_every_machine() -> None:
    shown = [round(component, 4) for component in hash_embedding("hello, world", 4)]
    assert shown == [-0.1632, 0.7071, -0.2176, 0.6527]


@pytest.mark.parametrize("text", ["", "!", "ö", "\ud800", "a b c", "word " * 5000])
@pytest.mark.parametrize("dimensions", [1, 2, 64])
def test_an_embedding_has_length_one(text: str, dimensions: int) -> None:
    vector = hash_embedding(text, dimensions)
    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1.0)


def test_texts_that_share_words_are_close() -> None:
    assert likeness("Hello World", "world, hello!") == pytest.approx(1.0)
    assert likeness("a sleeping cat", "the cat sleeps") > likeness("a sleeping cat", "the train is late")


def test_no_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="dimensions = 0"):
        hash_embedding_function(0)
