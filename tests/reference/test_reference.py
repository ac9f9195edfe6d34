"""The reference is what the code says, and what is written by hand does not contradict it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Struct

from neo_daemons.config.schema import File, Settings
from neo_daemons.definitions import Log, Restart, Stop

from . import lifecycle, pages, source
from .configuration import keys

CONFIGURATION = (pages.ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_files_are_what_the_code_says() -> None:
    assert pages.stale(pages.generated(), pages.ROOT) == [], "run: python -m tests.reference"


def test_a_file_that_differs_and_one_that_is_missing_are_stale(tmp_path: Path) -> None:
    (tmp_path / "same.md").write_text("text")
    (tmp_path / "other.md").write_text("old")
    assert pages.stale({"same.md": "text", "other.md": "new", "gone.md": "new"}, tmp_path) == ["other.md", "gone.md"]


@pytest.mark.parametrize(
    ("head", "struct"),
    [("key", File), ("key", Settings), ("key of `restart`", Restart), ("key of `stop`", Stop), ("key of `log`", Log)],
)
def test_the_hand_written_tables_have_the_same_keys_and_defaults(head: str, struct: type[Struct]) -> None:
    rows = written(head, len(keys(struct)))
    assert set(rows) == {name for name, _, _ in keys(struct)}
    for name, _, default in keys(struct):
        if re.fullmatch(r'`(\d[\d.]*|true|false|"[^"]*"|\{\})`', default):
            assert rows[name] == default, name


def written(head: str, size: int) -> dict[str, str]:
    """Return key → default of the table of docs/configuration.md that has this header and most of the keys."""
    tables = re.findall(
        rf"\| {re.escape(head)} \| type \| default \| meaning \|\n\|[-|]+\n((?:\|.*\n)+)", CONFIGURATION
    )
    rows = [dict(re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", text, re.MULTILINE)) for text in tables]
    return min(rows, key=lambda found: abs(len(found) - size))


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
