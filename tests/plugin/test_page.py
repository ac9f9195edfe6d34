"""``--neo-daemons-report``: what is in the page of a run, and when it is written."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from typing import Any

import pytest

from tests.harness import Project

from .inner import MODES, PARALLEL, Inner, refused
from .test_reports import SERVER

pytestmark = pytest.mark.long

TESTS = """
    import os, pytest, signal, urllib.request

    def get(api, path):
        return urllib.request.urlopen(f"{api.url}/{path}", timeout=20).status

    def test_passes(api):
        assert get(api, "?from-passing") == 200

    def test_fails(api):
        get(api, "?from-failing")
        raise AssertionError("</script><script>document.title = 'broken'</script><!-- & 'quoted'")

    def test_kills(fragile):
        before = fragile.restarts
        os.kill(fragile.pid, signal.SIGKILL)
        while fragile.restarts == before:
            pass
        fragile.wait_ready()

    def test_new(new_daemon):
        get(new_daemon("api"), "?from-new")

    @pytest.fixture
    def broken():
        raise AssertionError

    def test_setup(broken): pass

    @pytest.mark.skip("no need")
    def test_skipped(): pass

    @pytest.mark.xfail
    def test_expected(): raise AssertionError
"""
SEEN = """
    import os, pathlib

    def pytest_runtest_logreport(report):
        if "test_runs" in report.nodeid and "PYTEST_XDIST_WORKER" not in os.environ:
            pathlib.Path("seen").touch()
"""
"""A conftest.py that tells when the controller knows that a test has been set up."""
OUTCOMES = {
    "test_passes": "passed",
    "test_fails": "failed",
    "test_kills": "passed",
    "test_new": "passed",
    "test_setup": "error",
    "test_skipped": "skipped",
    "test_expected": "xfailed",
}


def data_of(page: str) -> dict[str, Any]:
    """The data of a page, as its script reads it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def page_of(inner: Inner, name: str = "page.html") -> dict[str, Any]:
    return data_of((inner.root / name).read_text())


def by_name(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {test["id"].rpartition("::")[2]: test for test in data["tests"]}


@pytest.mark.oldest
@MODES
def test_page_shows_what_happened_to_tests_and_daemons(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=SERVER, fragile=SERVER, unused=SERVER)
    inner.write("test_all.py", TESTS)
    outcome = inner.run(*mode, "--neo-daemons-report", "deep/er/page.html")
    assert outcome.code == 1, outcome.text
    assert f"page of this run: {inner.root / 'deep/er/page.html'}" in outcome.text
    data = page_of(inner, "deep/er/page.html")
    tests = by_name(data)
    assert {name: test["o"] for name, test in tests.items()} == OUTCOMES
    assert data["workers"] == (["gw0", "gw1"] if mode else ["main"])
    assert data["outcome"] == "failed"
    for test in tests.values():
        times = [moment for phase in test["p"] for moment in phase[1:]]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= data["duration"] + 0.001
    daemons = {daemon["name"]: daemon for daemon in data["daemons"]}
    assert [*daemons] == ["api", "fragile", "supervisor", "api of one test"]
    states = [segment[2] for segment in daemons["fragile"]["segments"]]
    assert states[:3] == ["starting", "running", "ready"], states
    assert states.count("ready") >= 2
    assert any(event[1] == "exit" and event[4] and "SIGKILL" in event[2] for event in daemons["fragile"]["events"])
    assert any(kind == "died" and "SIGKILL" in text for _, kind, text in tests["test_kills"]["e"])
    begin, end = tests["test_passes"]["l"]["api"]
    assert any("from-passing" in line for line in daemons["api"]["log"][begin:end])
    assert mode or not any("from-failing" in line for line in daemons["api"]["log"][begin:end])
    assert "</script><script>document" in "".join(tests["test_fails"]["t"])
    assert "from-failing" in "".join(text for _, text in tests["test_fails"]["s"])
    assert tests["test_fails"]["d"] == ["api"]


def test_page_needs_nothing_else(inner: Inner) -> None:
    inner.configure(api=SERVER, fragile=SERVER)
    inner.write("test_all.py", TESTS)
    inner.run("--neo-daemons-report", "page.html")
    page = (inner.root / "page.html").read_text()
    assert page.count("</script>") == 2
    assert page.count("<script") == 2
    assert (
        re.findall(
            r"""(?:(?<!-)src|href|url\(|@import|fetch\(|import\()\s*=?\s*["']?(?!data:)\S+""",
            page.partition('id="data"')[0],
        )
        == []
    )
    assert "default-src 'none'" in page


@MODES
def test_page_of_an_interrupted_run_shows_what_was_running(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=SERVER)
    inner.write(
        "test_long.py",
        """
        import pathlib, time

        def test_before(api): pass

        def test_runs(api):
            pathlib.Path("running").touch()
            time.sleep(600)

        def test_after(api): pass
        """,
    )
    inner.write("conftest.py", SEEN)
    process = inner.popen(*mode, "--neo-daemons-report=page.html", *(("--dist", "loadfile") if mode else ()))
    inner.reaches("running")
    inner.reaches("seen")
    os.kill(process.pid, signal.SIGINT)
    outcome = inner.end(process)
    assert outcome.code == pytest.ExitCode.INTERRUPTED, outcome.text
    data = page_of(inner)
    tests = by_name(data)
    assert data["outcome"] == "interrupted"
    assert tests["test_before"]["o"] == "passed"
    assert tests["test_runs"]["o"] == "unfinished"
    assert "test_after" not in tests
    assert any(segment[2] == "ready" for segment in data["daemons"][0]["segments"])


def test_test_of_a_crashed_worker_is_on_the_page(inner: Inner) -> None:
    inner.configure(api=SERVER)
    inner.write("test_crash.py", "import os\n\ndef test_crash(api):\n    os._exit(3)\n\ndef test_other(api): pass\n")
    inner.run(*PARALLEL, "--neo-daemons-report=page.html")
    tests = by_name(page_of(inner))
    assert {name: test["o"] for name, test in tests.items()} == {"test_crash": "crashed", "test_other": "passed"}
    assert "crashed while running" in tests["test_crash"]["t"][0]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file/page.html", ("file/page.html: cannot be written", "file is not a directory")),
        ("directory", ("directory: cannot be written", "it is a directory")),
        ("", ("--neo-daemons-report: empty value",)),
        ("/proc/page.html", ("/proc/page.html: cannot be written",)),
        ("/dev/null", ("/dev/null: cannot be written", "not a regular file")),
    ],
)
@MODES
def test_page_that_cannot_be_written_is_an_error_before_anything_starts(
    inner: Inner, path: str, words: tuple[str, ...], mode: tuple[str, ...]
) -> None:
    inner.configure(api=inner.toy())
    inner.write("file", "")
    (inner.root / "directory").mkdir()
    inner.write("test_never.py", "def test_never(api): pass\n")
    refused(inner, inner.run(*mode, f"--neo-daemons-report={path}"), words)


@pytest.mark.parametrize("option", ["--neo-daemons-report=page.html", "--neo-daemons-artifacts=kept"])
def test_without_the_flag_the_option_is_refused(inner: Inner, option: str) -> None:
    inner.write("test_plain.py", "def test_plain(): pass\n")
    refused(inner, inner.run(option, on=False), (option.partition("=")[0], "has no effect without --neo-daemons"))
    inner.write("pytest.ini", f"[pytest]\naddopts = {option}\n")
    assert inner.run("-k", "no_such_test", on=False).code == pytest.ExitCode.NO_TESTS_COLLECTED, inner.output()


def test_page_whose_directory_cannot_be_made_any_more_is_a_line_in_the_summary(inner: Inner) -> None:
    inner.configure(api=SERVER)
    inner.write("test_in_the_way.py", "def test_in_the_way(api):\n    open('place', 'w').close()\n")
    outcome = inner.run("--neo-daemons-report=place/page.html")
    assert outcome.code == 0, outcome.text
    assert "place/page.html: cannot be written: File exists" in outcome.text


def test_events_that_other_parts_note_are_on_the_page(inner: Inner) -> None:
    inner.configure(api=SERVER)
    inner.write(
        "conftest.py",
        "import pytest\nfrom pytest_neo_daemons.events import note_event\n\n"
        "@pytest.fixture\ndef noted(request):\n    note_event(request.node, 'refused', 8000)\n",
    )
    inner.write("test_noted.py", "def test_noted(noted): pass\ndef test_plain(): pass\n")
    inner.run(*PARALLEL, "--neo-daemons-report=page.html")
    tests = by_name(page_of(inner))
    assert [event[1:] for event in tests["test_noted"]["e"]] == [["refused", "8000"]]
    assert "e" not in tests["test_plain"]


def test_doctest_is_a_test_on_the_page(inner: Inner) -> None:
    inner.configure(api=SERVER)
    inner.write("test_doc.py", 'def documented():\n    """\n    >>> 1 + 1\n    3\n    """\n')
    inner.run("--doctest-modules", "--neo-daemons-report=page.html")
    assert [test["o"] for test in page_of(inner)["tests"]] == ["failed"]


@pytest.mark.oldest
@MODES
def test_module_that_cannot_be_collected_is_on_the_page(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=SERVER)
    inner.write("test_broken.py", "import no_such_module\n")
    inner.write("test_fine.py", "def test_fine(api): pass\n")
    inner.run(*mode, "--neo-daemons-report=page.html", "--continue-on-collection-errors")
    found = {test["id"]: test for test in page_of(inner)["tests"]}
    assert {name: test["o"] for name, test in found.items()} == {
        "test_broken.py": "error",
        "test_fine.py::test_fine": "passed",
    }
    assert "no_such_module" in found["test_broken.py"]["t"][0]


def test_page_of_a_warm_run_shows_that_its_daemons_were_ready(inner: Inner) -> None:
    inner.configure(api=SERVER, quiet=inner.toy("quiet"))
    inner.write("test_uses.py", "def test_uses(api, quiet): pass\n")
    try:
        for name in ("first", "second"):
            outcome = inner.run("--neo-daemons-keep=60s", f"--neo-daemons-report={name}.html")
            assert outcome.code == 0, outcome.text
    finally:
        inner.end_warm()
    daemons = {daemon["name"]: daemon for daemon in page_of(inner, "second.html")["daemons"]}
    data = page_of(inner, "second.html")
    for name in ("api", "quiet"):
        assert [segment[:3] for segment in daemons[name]["segments"]] == [[0.0, data["duration"], "ready"]]


def test_page_of_an_attached_run_shows_what_was_logged_since_it_began(inner: Inner, project: Project) -> None:
    inner.configure(api=SERVER)
    project.serve()
    url = project.reaches("api", "ready").url
    urllib.request.urlopen(f"{url}/?before", timeout=20).close()
    inner.write(
        "test_fails.py",
        """
        import urllib.request

        def test_fails(api):
            urllib.request.urlopen(f"{api.url}/?from-test", timeout=20)
            raise AssertionError
        """,
    )
    outcome = inner.run("--neo-daemons-attach", "--neo-daemons-report=page.html", "--neo-daemons-artifacts=kept")
    project.stop()
    data = page_of(inner)
    log = "\n".join(data["daemons"][0]["log"])
    assert ("?from-test" in log, "?before" in log) == (True, False), outcome.text
    begin, end = data["tests"][0]["l"]["api"]
    assert any("?from-test" in line for line in data["daemons"][0]["log"][begin:end])
    assert "?before" not in (inner.root / "kept" / "logs" / "api.log").read_text()
