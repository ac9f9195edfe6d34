"""What reports, JUnit XML and the summary say of the daemons."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from .inner import PARALLEL, Inner, Outcome

pytestmark = pytest.mark.long

SERVER: dict[str, Any] = {
    "command": [sys.executable, "-u", "-m", "http.server", "${port}", "--bind", "127.0.0.1"],
    "port": "auto",
    "ready": {"type": "http", "timeout_s": 2.0},
}
"""It logs each request."""
NOISE = (
    b"\x1b[31mred\x1b[0m\x1b]0;title\x07 bell\x07 zero\x00 bytes\xff end\n"
    b"over\rwritten\x08 \x9b31m\xc2\x9b31m\x1b[2J\xef\xbf\xbf tail\n"
)
MODES = pytest.mark.parametrize(
    "mode",
    [pytest.param((), id="alone", marks=pytest.mark.matrix), pytest.param((*PARALLEL, "--dist", "loadfile"), id="n2")],
)


def failures(outcome: Outcome) -> dict[str, str]:
    """Test → all that the XML says of it."""
    cases = ElementTree.fromstring(outcome.xml).iter("testcase")
    return {str(case.get("name")): "".join(case.itertext()) for case in cases}


@pytest.mark.oldest
@MODES
def test_a_failing_test_shows_what_its_daemons_logged_meanwhile(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=SERVER, other=SERVER)
    (inner.root / "noise").write_bytes(NOISE)
    inner.copy("logs.py", "test_logs.py")
    outcome = inner.run(*mode)
    assert outcome.counts() == {"failed": 8, "passed": 1}, outcome.text
    told = failures(outcome)
    markers = {name: set(re.findall(r"/from-(\w+)", text)) for name, text in told.items()}
    assert markers == {
        "test_passes": set(),
        "test_fails": {"failing"},
        "test_without_a_traceback": {"brief", "other"},
        "test_setup": {"setup"},
        "test_by_name": {"mapping"},
        "test_control_characters": set(),
        "test_isolated": {"isolated"},
        "test_silent": set(),
        "test_uses_none": set(),
    }, outcome.text
    shown = [*re.findall(r"GET /from-(\w+)", outcome.text)]
    assert sorted(shown) == ["brief", "failing", "isolated", "mapping", "other", "setup"]
    assert "log of api during this test" in told["test_fails"]
    assert "log of other during this test" in told["test_without_a_traceback"]
    assert [name for name in ("test_silent", "test_uses_none") if "log of" in told[name]] == [], told
    written = told["test_control_characters"]
    assert "red bell" in written
    assert "tail" in written
    assert "title" not in written
    assert [name for name, text in told.items() if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|#x1B", text)] == []
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", outcome.text)


def test_a_daemon_that_dies_during_a_passing_test_is_reported_in_xml_and_summary(inner: Inner) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.copy("deaths.py", "test_dies.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
    what = r"api died at \d\d:\d\d:\d\d\.\d{3}: killed by SIGKILL.*; back after \d+\.\d\d s"
    assert set(outcome.hit) <= {"test_dies::test_killed", "test_dies::test_asked_for"}
    assert re.fullmatch(what, outcome.hit["test_dies::test_killed"])
    summary = outcome.text.rpartition("= neo-daemons =")[2]
    assert re.search(f"^{what}; during test_dies.py::test_killed$", summary, re.MULTILINE), outcome.text
    assert re.search(
        r"^api  http://127.0.0.1:\d+  pid \d+  ready after [\d.]+ s  restarted once$", summary, re.MULTILINE
    )
    assert "other died" not in summary
    assert summary.count(" died ") == 1


@MODES
def test_a_failure_report_waits_until_the_supervisor_has_seen_a_death(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_dies.py",
        """
        import os, psutil, signal, subprocess

        def test_killed(api):
            pid = api.pid
            supervisor = psutil.Process(pid).ppid()
            os.kill(supervisor, signal.SIGSTOP)
            later = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {supervisor}"])
            os.kill(pid, signal.SIGKILL)
            assert later.pid is None
        """,
    )
    outcome = inner.run(*mode)
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "killed by SIGKILL" in failures(outcome)["test_killed"]


@pytest.mark.oldest
@MODES
def test_a_failure_while_a_daemon_was_dead_says_so(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_dies.py",
        """
        import os, signal, socket, urllib.request

        def test_killed(api):
            with socket.create_connection((api.host, api.port), timeout=20) as connection:
                os.kill(api.pid, signal.SIGKILL)
                assert connection.recv(1)

        def test_next(api):
            assert urllib.request.urlopen(api.url, timeout=20).status == 200
        """,
    )
    outcome = inner.run(*mode)
    assert outcome.counts() == {"failed": 1, "passed": 1}, outcome.text
    told = failures(outcome)["test_killed"]
    assert "killed by SIGKILL" in told
    assert "The daemon, not the test, may have caused this failure." in told
    assert "during test_dies.py::test_killed" in outcome.text


def test_the_summary_reports_probes_that_could_not_run(inner: Inner) -> None:
    database, position = inner.root / "log.sqlite", inner.root / "position"
    position.write_text("0")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE entries (a)")
    live = {"type": "file", "path": str(position), "database": str(database), "query": "SELECT count(*) FROM entries"}
    inner.configure(api=inner.toy(live={**live, "interval_s": 0.1}))
    inner.write(
        "test_locked.py",
        f"""
        import sqlite3

        def test_locks(api):
            connection = sqlite3.connect({str(database)!r})
            connection.execute("BEGIN EXCLUSIVE")
            journal = api.log_path.parents[1] / "journal.jsonl"
            while "probe-unknown" not in journal.read_text():
                pass
            connection.close()
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text
    said = f"api: probe-unknown: progress of {position}: database is locked (on the supervisor's side)"
    assert outcome.text.count(said) == 1, outcome.text


def test_a_daemon_that_a_test_reaches_indirectly_is_in_its_report(inner: Inner) -> None:
    inner.configure(db=inner.toy(), api=inner.toy(requires=["db"]), other=inner.toy())
    inner.copy("detours.py", "test_detours.py")
    outcome = inner.run()
    assert outcome.counts() == {"failed": 4}, outcome.text
    said = failures(outcome)
    for name, daemon in (("test_reached", "api"), ("test_reached_again", "api"), ("test_required", "db")):
        assert f"{daemon} was killed" in said[name] or re.search(rf"{daemon}\b.*SIGKILL", said[name]), said[name]
    assert "SIGKILL" not in said["test_other"]
