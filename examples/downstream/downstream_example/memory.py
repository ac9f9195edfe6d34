"""Finds notes by their content."""

from __future__ import annotations

import math
import re
import zlib

from chromadb.api import ClientAPI

DIMENSIONS = 256


class Memory:
    """Keeps notes in a collection of chroma."""

    def __init__(self, client: ClientAPI, collection: str = "notes") -> None:
        self._notes = client.get_or_create_collection(collection, embedding_function=None)

    def remember(self, key: str, note: str) -> None:
        """Keep a note, replacing the one with the same key."""
        self._notes.upsert(ids=[key], documents=[note], embeddings=[embed(note)])

    def recall(self, question: str) -> str | None:
        """Return the note most relevant to a question; None if there are no notes."""
        found = self._notes.query(query_embeddings=[embed(question)], n_results=1)["documents"]
        return found[0][0] if found and found[0] else None

    def __len__(self) -> int:
        return self._notes.count()


def embed(text: str) -> list[float]:
    """Hashed counts of words, of length 1: crude, and the same everywhere."""
    counts = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % DIMENSIONS] += 1.0
    length = math.hypot(*counts) or 1.0
    return [count / length for count in counts]
