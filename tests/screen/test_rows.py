"""What the view shows of daemons, as text."""

from __future__ import annotations

from typing import Any

import pytest

from neo_daemons.cli.screen import rows, table
from neo_daemons.cli.screen.feed import LONGEST_LINE, LogTail, shown
from neo_daemons.status import DaemonStatus, Holder


def daemon(name: str = "api", **fields: Any) -> DaemonStatus:
    known: dict[str, Any] = {
        "state": "ready",
        "ready": True,
        "pid": 4121,
        "url": None,
        "ports": {},
        "restarts": 0,
        "uptime_s": 1.0,
        "cpu_percent": 0.0,
        "rss_bytes": 1_000_000,
        "log_path": "x",
        "data_dir": None,
        "last_exit": None,
        "detail": None,
    }
    return DaemonStatus(name=name, **{**known, **fields})


@pytest.mark.parametrize("width", [79, 100, 119, 200])
def test_the_columns_fill_the_width_and_no_more(width: int) -> None:
    columns = rows.columns(width)
    assert sum(column.width + rows.GAP for column in columns) == width
    assert columns[0].width >= 15
    assert (" DETAIL" in [column.heading for column in columns]) == (width >= 110)


def test_a_cell_that_is_cut_leaves_the_gap_to_the_next_column() -> None:
    column = next(column for column in rows.columns(79) if column.heading == "STATE")
    cell = table.cell(daemon(), column, "● ready, on hold")
    assert (len(cell), str(cell)[-1]) == (column.width, "…")


def test_a_sparkline_shows_the_latest_values_from_zero_to_the_largest() -> None:
    assert rows.sparkline([9, 0, 4, 8], 3) == "▁▅█"
    assert rows.sparkline([], 5) == ""
    assert rows.sparkline([0, 0], 5) == "▁▁"
    assert rows.sparkline([0.1], 5, least=1.0) == "▁"
    assert rows.sparkline([1], 0) == ""


def test_the_history_forgets_daemons_that_are_gone() -> None:
    history = rows.History()
    history.add([daemon(cpu_percent=50.0), daemon("web", cpu_percent=None, rss_bytes=None)])
    assert history.cpu("api", 10) == "█"
    history.add([daemon("web")])
    assert history.cpu("api", 10) == ""
    assert history.memory("web", 10) == "▁█"


def test_only_what_ends_a_process_is_asked_about_and_the_question_names_who_needs_it() -> None:
    base = daemon("base", holders=(Holder(name="exec \x1b[2Jpytest", pid=7, since=0.0),))
    users = [daemon(f"user{number}", requires=("base",)) for number in range(5)]
    assert rows.ends_a_process("stop", base)
    assert not rows.ends_a_process("hold", base)
    assert not rows.ends_a_process("restart", daemon(pid=None))
    asked = rows.question("stop", base, [base, *users, daemon("down", requires=("base",), pid=None)])
    assert asked.splitlines() == [
        "Stop base (pid 4121)?",
        "required by user0, user1, user2 and 2 more",
        "in use by exec pytest (pid 7)",
    ]


def test_the_filter_compares_names_and_states() -> None:
    daemons = [daemon("api"), daemon("web", state="stopped")]
    assert rows.matching(daemons, "") == daemons
    assert rows.matching(daemons, "WEB stop") == daemons[1:]
    assert rows.matching(daemons, "[red]") == []


def test_a_line_of_a_log_is_shown_without_control_characters_and_not_endless() -> None:
    assert shown("10 %\r50 %\r") == "50 %"
    assert shown("a\tb") == "a       b"
    assert shown("\x1b[31mred\x1b[0m \x1b]0;t\x07") == "red "
    assert shown("a\x1b]0;no end") == "a�]0;no end"
    assert shown("x" * 10_000) == "x" * LONGEST_LINE + "…"


def test_a_reader_gets_whole_lines_and_of_a_flood_the_last_ones() -> None:
    tail = LogTail("api")
    tail.add("a\nb")
    assert tail.take() == (True, ["a"])
    tail.add("c\n")
    assert tail.take() == (False, ["bc"])
    tail.add("x\n" * 5000 + "last\n")
    begins, lines = tail.take()
    assert not begins
    assert len(lines) == 1000
    assert lines[-1] == "last"
    tail.begin()
    assert tail.take() == (True, [])
