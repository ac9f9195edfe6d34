"""docs/migrating.md is true: its tests pass with the conftest.py before, and with that after."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .inner import MODES, Inner, results

pytestmark = pytest.mark.long

DOCUMENT = Path(__file__).parents[2] / "docs" / "migrating.md"


def block(begin: str) -> str:
    """Return the block of code of the document that begins with this text."""
    found = [
        text for text in re.findall(r"```\w+\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if text.startswith(begin)
    ]
    assert len(found) == 1, begin
    return str(found[0])


@pytest.fixture
def suite(inner: Inner) -> Inner:
    inner.copy("notes.py", "notes.py")
    inner.write("test_notes.py", block("# test_notes.py"))
    inner.write("test_more.py", block("# test_notes.py"))
    return inner


@MODES
def test_the_suite_passes_after_the_migration(suite: Inner, mode: tuple[str, ...]) -> None:
    suite.write("neo-daemons.toml", block("[daemons.notes]"))
    suite.write("conftest.py", block("# conftest.py, after"))
    outcome = suite.run(*mode)
    assert (outcome.code, results(outcome)) == (0, {"test_remembers": "passed"}), outcome.text
    assert outcome.counts() == {"passed": 2}
    suite.wait_until_nothing_is_left()


def test_the_suite_passes_before_the_migration(suite: Inner) -> None:
    suite.write("conftest.py", block("# conftest.py, before"))
    outcome = suite.run(on=False)
    assert outcome.counts() == {"passed": 2}, outcome.text
