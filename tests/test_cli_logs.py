"""The logs of several daemons, merged."""

from __future__ import annotations

import datetime

import pytest

from neo_daemons.cli import display
from neo_daemons.cli.logs import Log, merged, time_of

DAY = datetime.datetime(2026, 1, 2, 10, 30, tzinfo=datetime.UTC).timestamp()
LOCAL = datetime.datetime(2026, 1, 2, 10, 30).astimezone().timestamp()


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("2026-01-02T10:30:00Z started", DAY),
        ("2026-01-02T11:30:00.250+01:00 started", DAY + 0.25),
        ("2026-01-02 10:30:00,5 INFO", LOCAL + 0.5),
        ("[2026-01-02 10:30:00.123456789 +0000] x", DAY + 0.123456),
        ("\x1b[32mINFO\x1b[0m:  2026-01-02T10:30:00Z x", DAY),
        ("started at 2026-01-02, a Friday", None),
        ("2026-13-02T10:30:00Z", None),
        ("version 12026-01-02 10:30:00", None),
        ("", None),
    ],
)
def test_the_time_at_the_beginning_of_a_line_is_found(line: str, at: float | None) -> None:
    assert time_of(line) == at


def test_lines_are_merged_by_time_and_a_log_keeps_its_order() -> None:
    first = Log(
        "a", ["banner", "2026-01-01 10:00:01 x", "  more of x", "2026-01-01 10:00:05 y", "2026-01-01 10:00:03"], 0
    )
    second = Log("b", ["2026-01-01 10:00:02 z", "2026-01-01 10:00:04 u"], 0)
    untimed = Log("c", ["no", "time"], time_of("2026-01-01 10:00:03") or 0)
    assert [(name, line.removeprefix("2026-01-01 10:00:")) for name, line in merged([first, second, untimed])] == [
        ("a", "banner"),
        ("a", "01 x"),
        ("a", "  more of x"),
        ("b", "02 z"),
        ("c", "no"),
        ("c", "time"),
        ("b", "04 u"),
        ("a", "05 y"),
        ("a", "03"),
    ]


def test_the_prefixes_are_as_wide_as_each_other_and_coloured_where_colours_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert display.prefixes(["db", "cache"]) == {"db": "db   ", "cache": "cache"}
    monkeypatch.delenv("NO_COLOR")
    assert display.prefixes(["db", "cache"]) == {"db": "\x1b[36mdb   \x1b[0m", "cache": "\x1b[33mcache\x1b[0m"}
    monkeypatch.delenv("FORCE_COLOR")
    assert display.prefixes(["db"]) == {"db": "db"}


def test_without_colours_those_of_a_log_are_removed() -> None:
    text = "\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[2J\x1b]8;;http://x\x1b\\\n"
    assert (display.tame(text), display.tame(text, coloured=False)) == ("\x1b[31mred\x1b[0m\n", "red\n")
