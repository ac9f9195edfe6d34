"""Each test has its own database in the shared chroma, so its collection is always new."""

import pytest

from downstream_example.memory import Memory

NOTES = {
    "cat": "the cat is called Mia and is afraid of the hoover",
    "car": "the car needs winter tyres in October",
    "key": "the spare key is under the third flower pot",
}


def test_an_empty_memory_recalls_nothing(memory):
    assert memory.recall("what is the cat called?") is None


@pytest.mark.parametrize(("question", "key"), [("is the cat afraid?", "cat"), ("where is the spare key?", "key")])
def test_recalls_what_a_question_is_about(memory, question, key):
    assert len(memory) == 0
    for name, note in NOTES.items():
        memory.remember(name, note)
    assert memory.recall(question) == NOTES[key]


def test_a_note_replaces_the_one_of_the_same_key(memory):
    memory.remember("cat", NOTES["cat"])
    memory.remember("cat", "the cat is called Tom")
    assert len(memory) == 1
    assert memory.recall("cat") == "the cat is called Tom"


def test_collections_are_apart(chroma_client):
    Memory(chroma_client, "work").remember("car", NOTES["car"])
    assert len(Memory(chroma_client, "home")) == 0
