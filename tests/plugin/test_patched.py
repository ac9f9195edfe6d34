"""A test may put anything in the place of what its process runs on: the others run, and no hook of ours ends a run."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from pathlib import Path

import pytest

from neo_daemons.bridge_files import DAEMON_DIR_VARIABLE, DATABASE_VARIABLE
from pytest_neo_daemons.bridge_graph import BridgeGraph
from pytest_neo_daemons.guard import MAX_HOOK_FAILURES, HookFailures

from .inner import Inner

pytestmark = pytest.mark.long

TARGETS = (
    "socket.socket",
    "socket.create_connection",
    "builtins.open",
    "os.open",
    "os.read",
    "time.time",
    "time.monotonic",
    "os.getpid",
    "os.geteuid",
    "os.urandom",
    "uuid.uuid4",
    "secrets.token_hex",
)
FATAL = frozenset({"builtins.open", "time.time"})
"""What pytest itself does not survive when nobody undoes it."""


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(TARGETS, id="one after the other, then all"),
        *(pytest.param((target,), id=target, marks=pytest.mark.matrix) for target in TARGETS),
    ],
)
def test_the_other_tests_run_whatever_one_patches(inner: Inner, targets: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.env |= {"TARGETS": " ".join(targets), "FATAL": " ".join(FATAL)}
    inner.copy("patched.py", "test_patched.py")
    outcome = inner.run()
    assert "INTERNALERROR" not in outcome.text
    patched = [f"test_fails_while_it_is_patched[{how}-{target}]" for how in ("raises", "answers") for target in targets]
    assert {name.partition("::")[2]: result for name, result in outcome.results.items()} == {
        "test_before": "passed",
        **dict.fromkeys(patched, "failed"),
        "test_after": "passed",
        "test_never_undoes_it": "failed",
        "test_last": "passed",
        "test_the_last_to_fail": "failed",
    }, outcome.text
    _, section, rest = outcome.text.partition("= neo-daemons =")
    assert section, outcome.text
    assert "failed: " not in rest.partition("= short test summary")[0]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("raise RuntimeError('of the project')", "RuntimeError: of the project"),
        ("pytest.fail('of the project')", "Failed: of the project"),
        ("pytest.skip('of the project')", "Skipped: of the project"),
        ("raise pytest.UsageError('of the project')", "UsageError: of the project"),
        ("raise SystemExit('of the project')", "SystemExit: of the project"),
    ],
    ids=["RuntimeError", "fail", "skip", "UsageError", "SystemExit"],
)
def test_an_error_in_a_hook_is_reported_in_the_summary_and_ends_nothing(
    inner: Inner, statement: str, error: str
) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        f"""
        import pytest

        def pytest_neo_daemons_died(incident):
            {statement}
        """,
    )
    inner.write(
        "test_dies.py",
        """
        def test_killed(api):
            api.kill()

        def test_killed_and_fails(api):
            api.kill()
            raise AssertionError("on purpose")

        def test_next(api):
            assert api.state == "ready"
        """,
    )
    line = f"pytest_neo_daemons_died failed: {error}, during test_dies.py::test_killed and 1 more; the run continued"
    for mode in ((), ("-n", "1"), ("-W", "error")) if "Runtime" in error else ((),):
        outcome = inner.run(*mode)
        assert outcome.counts() == {"passed": 2, "failed": 1}, outcome.text
        assert "INTERNALERROR" not in outcome.text
        assert line in outcome.text
        assert outcome.text.count("may have caused this failure") == 0
        assert outcome.text.count("(requested by a test)") >= 1  # the report says it all the same


def test_new_daemons_differ_even_if_randomness_is_patched(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_chance.py",
        """
        import os, random, secrets, uuid

        def test_two(new_daemon, monkeypatch):
            monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=1))
            monkeypatch.setattr(secrets, "token_hex", lambda length=32: "ab" * length)
            monkeypatch.setattr(os, "urandom", lambda length: b"a" * length)
            monkeypatch.setattr(random, "random", lambda: 0.5)
            first, second = new_daemon("api"), new_daemon("api")
            assert first.name != second.name
            assert first.pid != second.pid
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text


def test_messages_to_the_bridge_differ_even_if_randomness_is_patched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "graph.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE Nodes (id TEXT PRIMARY KEY, data TEXT)")
        connection.execute("CREATE TABLE Edges (id TEXT PRIMARY KEY, source TEXT, target TEXT, type TEXT, data TEXT)")
    graph = BridgeGraph({DATABASE_VARIABLE: str(database), DAEMON_DIR_VARIABLE: str(tmp_path)})
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(int=1))
    monkeypatch.setattr("os.urandom", lambda length: b"a" * length)
    agent = graph.subscribe()
    assert graph.send(agent, "one") != graph.send(agent, "two")
    assert graph.subscribe() != agent


def test_a_wrong_marker_added_while_a_test_runs_does_not_end_the_run(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_marked.py",
        """
        import pytest

        @pytest.fixture
        def late(request):
            request.node.add_marker(pytest.mark.neo_daemons("nobody"))
            raise RuntimeError("ScopeMismatch")

        def test_late(late): pass

        def test_next(api): pass
        """,
    )
    outcome = inner.run()
    assert "INTERNALERROR" not in outcome.text
    assert outcome.counts() == {"error": 1, "passed": 1}, outcome.text
    said = "test_marked.py::test_late: @pytest.mark.neo_daemons('nobody'): unknown daemon"
    assert f"pytest_runtest_makereport failed: Failed: {said}" in outcome.text


@pytest.mark.filterwarnings("ignore::pytest.PytestWarning")
def test_hook_failures_are_counted_by_kind_and_place_and_not_by_text() -> None:
    def fail(text: str) -> Exception:
        try:
            raise ValueError(text)
        except ValueError as error:
            return error

    hook_failures = HookFailures()
    for number in range(100):
        hook_failures.note("pytest_runtest_setup", fail(str(number)), f"test_{number}")
    assert hook_failures.lines() == [
        "pytest_runtest_setup failed: ValueError: 0, during test_0 and 99 more; the run continued"
    ]
    for number in range(100):
        hook_failures.note(f"pytest_hook_{number}", fail("other"), None)
    assert len(hook_failures.lines()) == MAX_HOOK_FAILURES + 1
    assert hook_failures.lines()[-1] == f"and {101 - MAX_HOOK_FAILURES} more hook failures"


@pytest.mark.parametrize(
    "options",
    [("--disable-socket",), ("--allow-hosts=127.0.0.1",), ("--disable-socket", "--allow-unix-socket")],
    ids=" ".join,
)
def test_the_plugin_works_beside_pytest_socket(inner: Inner, options: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_sockets.py",
        """
        def test_asks(api):
            assert api.state == "ready"

        def test_fails(api):
            raise AssertionError("on purpose")

        def test_kills(api):
            api.kill()
            api.wait_ready()
        """,
    )
    outcome = inner.run(*options)
    assert outcome.counts() == {"passed": 2, "failed": 1}, outcome.text


def test_the_plugin_works_beside_fakes_of_the_clock_and_the_file_system(inner: Inner) -> None:
    inner.without = tuple(name for name in inner.without if name != "fakefs")
    inner.configure(api=inner.toy())
    inner.copy("fakes.py", "test_fakes.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 5, "failed": 2}, outcome.text
