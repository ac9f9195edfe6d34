"""What tests of programs that use chroma need besides a server. chromadb is imported when it is asked for."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from typing import Any

from .clients import import_chromadb

NAME = "neo_daemons_hash"
DIMENSIONS = 384
PLACES = 8
"""The number of components that a word adds to: so many that words seldom share all of theirs by accident."""
PART = 3
"""The length of the parts of words that are compared, too."""
WORD_WEIGHT, PART_WEIGHT = 1.0, 0.25


def hash_embedding(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1 that depends on nothing but the words of a text: the same on every machine, without a
    model. Texts with the same words in whatever order have the same vector; the more words, and parts of words, two
    texts share, the closer their vectors are. It knows nothing of meaning.

    Args:
        dimensions: the number of components, at least 1.
    """
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        _add(vector, word, WORD_WEIGHT)
        framed = f" {word} "
        for start in range(len(framed) - PART + 1):
            _add(vector, framed[start : start + PART], PART_WEIGHT)
    length = math.hypot(*vector)
    if length == 0:  # what was added has cancelled itself out
        vector[0] = length = 1.0
    return [component / length for component in vector]


def _add(vector: list[float], feature: str, weight: float) -> None:

    digest = hashlib.shake_128(feature.encode("utf-8", "replace")).digest(4 * PLACES)
    for start in range(0, len(digest), 4):
        number = int.from_bytes(digest[start : start + 4], "big")
        vector[(number >> 1) % len(vector)] += weight if number & 1 else -weight


def hash_embedding_function(dimensions: int = DIMENSIONS) -> Any:
    """Return an embedding function of chromadb, for ``embedding_function=…``, that computes `hash_embedding`. Without
    one, chromadb downloads a model. It is registered, so that ``get_collection`` finds it by itself.

    Raises:
        ImportError: chromadb is not installed.
        ValueError: `dimensions` is not at least 1.
    """
    if dimensions < 1:
        raise ValueError(f"dimensions = {dimensions}: use 1 or more")
    return _hash_embedding_function()(dimensions)


@functools.cache
def _hash_embedding_function() -> Any:
    """Return the class, which can only be defined when chromadb has been imported."""
    import_chromadb()
    from chromadb.api.types import EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function

    class HashEmbeddingFunction(EmbeddingFunction):  # type: ignore[misc]
        """Computes `hash_embedding`."""

        def __init__(self, dimensions: int = DIMENSIONS) -> None:
            self._dimensions = dimensions

        def __call__(self, input: Any) -> Any:  # noqa: A002 - chromadb checks the name
            return [hash_embedding(text, self._dimensions) for text in input]

        @staticmethod
        def name() -> str:
            """Return the name under which a collection remembers it."""
            return NAME

        def default_space(self) -> Any:
            """Return the measure of distance of a collection that states none."""
            return "cosine"

        def get_config(self) -> dict[str, Any]:
            """Return what a collection remembers of it."""
            return {"dimensions": self._dimensions}

        @staticmethod
        def build_from_config(config: dict[str, Any]) -> Any:
            """Return one for what a collection remembers."""
            return HashEmbeddingFunction(**config)

    register_embedding_function(HashEmbeddingFunction)
    return HashEmbeddingFunction
