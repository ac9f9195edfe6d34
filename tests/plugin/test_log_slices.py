"""Failure reports show of daemons' logs what belongs to the failure, once, and no more than is asked for."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_neo_daemons import log_slices

from .inner import Inner, Outcome, refused
from .test_reports import SERVER

pytestmark = pytest.mark.long

TALKATIVE: dict[str, Any] = {**SERVER, "command": [sys.executable, "${project}/talkative.py", "${port}"]}
TEN = """
    import pytest, urllib.request

    @pytest.mark.parametrize("number", range(10))
    def test_fails(api, number):
        expected = {"answer": 42, "number": number}
        for lap in range(20):
            urllib.request.urlopen(f"{api.url}/{number}/{lap}", timeout=20).read()
        assert {"answer": 41, "number": number} == expected
"""
SECTION = re.compile(r"^-+ (?:log of \S+ during this test|neo-daemons) -+\n(?:(?![-=_]{4}).*\n)*", re.MULTILINE)
BANNER = "~~~ welcome"


@pytest.fixture
def talkative(inner: Inner) -> Inner:
    """A repository whose daemon begins with a banner and logs each request."""
    inner.copy("talkative.py", "talkative.py")
    inner.configure(api=TALKATIVE)
    return inner


def share(outcome: Outcome) -> float:
    """The share of the bytes of the failures' reports that came from daemons."""
    told = outcome.text.partition("= FAILURES =")[2].partition("= neo-daemons =")[0].encode()
    sections = b"".join(match.group().encode() for match in SECTION.finditer(told.decode()))
    assert told
    return len(sections) / len(told)


@pytest.mark.parametrize(
    ("capture", "shown"), [("all", True), ("log", True), ("no", False), ("stdout", False), ("stderr", False)]
)
def test_logs_of_daemons_are_shown_as_logs_are(talkative: Inner, capture: str, shown: bool) -> None:
    talkative.write("test_ten.py", TEN)
    outcome = talkative.run(f"--show-capture={capture}", "-k", "fails[1]")
    assert ("log of api during this test" in outcome.text) == shown, outcome.text
    assert ("GET /1/19" in outcome.text) == shown


@pytest.mark.parametrize(("lines", "shown"), [("0", 0), ("3", 3), ("", 20)])
def test_as_many_lines_are_shown_as_the_setting_says(talkative: Inner, lines: str, shown: int) -> None:
    talkative.write("test_ten.py", TEN)
    outcome = talkative.run("-k", "fails[1]", *(("-o", f"neo_daemons_log_lines={lines}") if lines else ()))
    found = re.findall(r"GET /1/(\d+)", outcome.text)
    assert [int(lap) for lap in found] == [*range(20)][20 - shown :], outcome.text
    assert ("… 17 lines left out" in outcome.text) == (lines == "3")


def test_forty_lines_are_shown_by_default(talkative: Inner) -> None:
    talkative.write("test_ten.py", TEN.replace("range(20)", "range(100)"))
    outcome = talkative.run("-k", "fails[1]")
    assert len(re.findall(r"GET /1/(\d+)", outcome.text)) == 40, outcome.text
    assert "… 60 lines left out" in outcome.text


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "201", "9" * 5000, "٣"])
def test_another_number_of_lines_is_a_usage_error(talkative: Inner, value: str) -> None:
    talkative.write("test_ten.py", TEN)
    outcome = talkative.run("-o", f"neo_daemons_log_lines={value}")
    refused(talkative, outcome, ("-o neo_daemons_log_lines =", value[:20], "from 0 (none) to 200"))


@pytest.mark.parametrize("mode", [(), ("-n", "2")], ids=["alone", "n2"])
def test_ten_failures_are_mostly_the_tests_own_text(talkative: Inner, mode: tuple[str, ...]) -> None:
    """And no line of a log is there twice, unless tests of two workers cause it, and no banner."""
    talkative.write("test_ten.py", TEN.replace("range(20)", "range(4)"))
    outcome = talkative.run(*mode)
    assert outcome.counts() == {"failed": 10}, outcome.text
    assert BANNER not in outcome.text
    requests = re.findall(r"GET /\d+/\d+", outcome.text)
    assert len({*requests}) == 40
    assert mode or len(requests) == 40
    assert share(outcome) < 0.5, outcome.text


def test_a_second_report_of_a_test_shows_only_what_is_new(talkative: Inner) -> None:
    """That of its teardown repeated all that was in the first."""
    talkative.write(
        "test_twice.py",
        """
        import os, pytest, signal, urllib.request

        @pytest.fixture
        def late(api):
            yield
            urllib.request.urlopen(f"{api.url}/in-teardown", timeout=20).read()
            raise AssertionError

        def test_twice(api, late):
            before = api.restarts
            os.kill(api.pid, signal.SIGKILL)
            while api.restarts == before:
                pass
            api.wait_ready()
            urllib.request.urlopen(f"{api.url}/in-test", timeout=20).read()
            raise AssertionError
        """,
    )
    outcome = talkative.run()
    assert (outcome.text.count("GET /in-test"), outcome.text.count("GET /in-teardown")) == (1, 1), outcome.text
    assert outcome.text.count("The daemon, not the test, may have caused this failure.") == 1


def test_what_a_daemon_repeats_at_each_start_is_left_out(talkative: Inner) -> None:
    talkative.write(
        "test_again.py",
        """
        import urllib.request

        def test_again(api):
            for lap in range(2):
                api.restart()
                urllib.request.urlopen(f"{api.url}/lap-{lap}", timeout=20).read()
            raise AssertionError

        def test_new(new_daemon):
            api = new_daemon("api")
            urllib.request.urlopen(f"{api.url}/new", timeout=20).read()
            raise AssertionError
        """,
    )
    outcome = talkative.run()
    assert BANNER not in outcome.text, outcome.text
    assert outcome.text.count("it started again: ") == 2
    assert [outcome.text.count(f"GET /{path}") for path in ("lap-0", "lap-1", "new")] == [1, 1, 1]


def test_a_daemon_that_did_not_start_is_explained_once(inner: Inner) -> None:
    inner.configure(api=inner.toy("write=out-of-order", "exit=3", restart={"when": "never"}))
    inner.write("test_never.py", "def test_never(api): pass\n")
    outcome = inner.run()
    assert outcome.counts() == {"error": 1}, outcome.text
    assert "the end of its log:\n    out-of-order" in outcome.text
    assert "log of api during this test" not in outcome.text


HEAD = ["", "  *** server 1.2 ***", "", "pid 41", "listening on port 8000", "GET /"]


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (
            ["GET /a", *HEAD[:5], "GET /b"],
            ["GET /a", "… it started again: 4 lines as at its first start left out", "GET /b"],
        ),
        (["GET /", "pid 7"], ["GET /", "pid 7"]),
        (
            ["  *** server 1.2 ***", "panic: no disk"],
            ["  *** server 1.2 ***", "panic: no disk"],
        ),
        ([], []),
    ],
)
def test_only_what_follows_the_first_line_of_a_log_is_a_banner(lines: list[str], left: list[str]) -> None:
    assert log_slices.without_starts(lines, HEAD, 9)[0] == left


def test_a_log_without_a_first_line_has_no_banner() -> None:
    assert log_slices.without_starts(["a", ""], ["", ""], 9) == (["a", ""], 0)


def test_no_more_banners_are_found_than_there_were_starts() -> None:
    head, lines = ["GET /", "GET /"], ["GET /", "GET /", "GET /", "GET /"]
    assert log_slices.without_starts(lines, head, 0) == (lines, 0)
    started = "… it started again: 2 lines as at its first start left out"
    assert log_slices.without_starts(lines, head, 1) == ([started, *lines[2:]], 1)


def test_a_single_ordinary_line_is_a_banner_only_where_there_is_no_other() -> None:
    lines = ["GET /a", "GET /", "GET /b"]
    assert log_slices.without_starts(lines, ["GET /", "POST /"], 2) == (lines, 0)
    started = "… it started again: 1 line as at its first start left out"
    assert log_slices.without_starts(lines, ["GET /"], 2) == (["GET /a", started, "GET /b"], 1)


def test_a_slice_that_begins_within_a_line_says_that_there_was_more(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("".join(f"line {number:05}\n" for number in range(10_000)))
    cut = log_slices.cut("api", log, 0, starts=0)
    assert cut.slice is not None
    assert cut.end == log.stat().st_size
    first, *shown = cut.slice.text(3).splitlines()
    assert shown == ["line 09997", "line 09998", "line 09999"]
    assert re.fullmatch(r"… more than \d+ lines left out", first)
    assert all(line.startswith("line 0") for line in cut.slice.lines)


@pytest.mark.real
@pytest.mark.parametrize(("asked", "quiet"), [({}, True), ({"RUST_LOG": "info,chroma=trace"}, False)])
def test_chroma_says_nothing_unless_asked(inner: Inner, asked: dict[str, str], quiet: bool) -> None:
    inner.env |= asked
    inner.write(
        "test_three.py",
        """
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_fails(chroma_client, number):
            notes = chroma_client.create_collection("notes", embedding_function=None)
            notes.add(ids=["1"], embeddings=[[1.0, 2.0]])
            assert notes.count() == 2
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"failed": 3}, outcome.text
    assert "Connect to Chroma" not in outcome.text
    assert ("log of chroma" not in outcome.text) == quiet, outcome.text
    assert not quiet or share(outcome) == 0
