"""The reference is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import lifecycle, pages, source


def test_the_files_are_what_the_code_says() -> None:
    assert pages.stale(pages.generated(), pages.ROOT) == [], "run: python -m tests.reference"


def test_a_file_that_differs_and_one_that_is_missing_are_stale(tmp_path: Path) -> None:
    (tmp_path / "same.md").write_text("text")
    (tmp_path / "other.md").write_text("old")
    assert pages.stale({"same.md": "text", "other.md": "new", "gone.md": "new"}, tmp_path) == ["other.md", "gone.md"]


def test_a_transition_without_an_arrow_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "ARROWS", lifecycle.ARROWS[1:])
    with pytest.raises(ValueError, match="no arrow for starting spawned"):
        lifecycle.picture()


def test_an_arrow_that_the_table_no_longer_has_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = lifecycle.ARROWS[0]._replace(events=(lifecycle.E.PASS,))
    monkeypatch.setattr(lifecycle, "ARROWS", (*lifecycle.ARROWS, wrong))
    with pytest.raises(ValueError, match="no longer lead to running"):
        lifecycle.picture()


def test_what_is_public_has_a_docstring() -> None:
    with pytest.raises(source.Undocumented, match="ENDS"):
        source.text_of(source.find("neo_daemons.supervision.machine").members["_ENDS"])
