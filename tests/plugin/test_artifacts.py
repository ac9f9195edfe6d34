"""``--neo-daemons-artifacts`` and the step summary: what a run leaves for people who were not there."""

from __future__ import annotations

import json

import pytest

from pytest_neo_daemons.reports.redaction import Redactor, looks_secret

from .inner import MODES, PARALLEL, Inner, refused
from .test_page import page_of
from .test_reports import SERVER

pytestmark = pytest.mark.long

SECRETS = {"API_KEY": "sk-do-not-tell", "DATABASE_PASSWORD": "hunter22", "GITHUB_TOKEN": "ghp_none_of_yours"}
FAILING = """
    import os, urllib.request

    def test_fails(api):
        for name in ("API_KEY", "DATABASE_PASSWORD"):
            urllib.request.urlopen(f"{api.url}/?said={os.environ[name]}&token=zzz-unknown", timeout=20)
        raise AssertionError(os.environ["GITHUB_TOKEN"])
"""


@pytest.mark.oldest
@MODES
def test_failing_run_keeps_what_explains_it_without_secrets(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api={**SERVER, "env": {"X_SECRET": "of the definition", "PLAIN": "shown"}})
    inner.env |= SECRETS
    inner.write("test_fails.py", FAILING)
    outcome = inner.run(*mode, "--neo-daemons-artifacts", "kept", "--neo-daemons-report", "page.html")
    assert outcome.code == 1, outcome.text
    assert f"logs and other artifacts of this run: {inner.root / 'kept'}" in outcome.text
    kept = inner.root / "kept"
    files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    wanted = {"neo-daemons.json", "definitions.json", "journal.jsonl", "logs/api.log", "page.html", "status.json"}
    assert wanted <= files, files
    assert wanted - {"neo-daemons.json"} <= {*json.loads((kept / "neo-daemons.json").read_text())["files"]}
    told = {name: (kept / name).read_text() for name in files} | {"report": (inner.root / "page.html").read_text()}
    secrets = [*SECRETS.values(), "of the definition", "zzz-unknown"]
    assert [(name, secret) for name, text in told.items() for secret in secrets if secret in text] == []
    assert "said=***" in told["logs/api.log"]
    definition = json.loads(told["definitions.json"])[0]
    assert definition["env"] == {"X_SECRET": "***", "PLAIN": "shown"}
    events = [json.loads(line)["event"] for line in told["journal.jsonl"].splitlines()]
    assert "ready" in events
    assert page_of(inner)["tests"][0]["o"] == "failed"


@MODES
def test_run_that_passes_keeps_nothing(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=SERVER)
    inner.write("test_passes.py", "def test_passes(api): pass\n")
    assert inner.run(*mode, "--neo-daemons-artifacts=kept").code == 0, inner.output()
    assert not (inner.root / "kept").exists()


def test_next_failing_run_replaces_what_the_last_one_kept_and_nothing_else(inner: Inner) -> None:
    inner.configure(api=SERVER, other=SERVER)
    inner.write("kept/mine.txt", "")
    inner.write(
        "test_fails.py", "def test_both(api, other): raise AssertionError\ndef test_one(api): raise AssertionError\n"
    )
    inner.run("--neo-daemons-artifacts=kept", "-k", "both")
    assert (inner.root / "kept/logs/other.log").exists()
    inner.run("--neo-daemons-artifacts=kept", "-k", "one")
    assert [path.name for path in (inner.root / "kept/logs").iterdir()] == ["api.log"]
    assert (inner.root / "kept/mine.txt").exists()


def test_what_no_run_has_written_is_neither_removed_nor_replaced(inner: Inner) -> None:
    inner.configure(api=SERVER)
    inner.write("kept/neo-daemons.json", '{"files": ["precious.txt", "../test_fails.py"]}')
    inner.write("kept/precious.txt", "mine")
    inner.write("kept/status.json", "mine")
    inner.write("test_fails.py", "def test_one(api): raise AssertionError\n")
    for _ in range(2):  # what is in the way is named each time
        outcome = inner.run("--neo-daemons-artifacts=kept")
        assert "status.json is not of an earlier run; use another directory" in outcome.text
    left = {path.name for path in (inner.root / "kept").iterdir()}
    assert left == {"neo-daemons.json", "precious.txt", "status.json"}
    assert [(inner.root / "kept" / name).read_text() for name in ("precious.txt", "status.json")] == ["mine", "mine"]
    assert (inner.root / "test_fails.py").exists()


def test_secrets_that_a_fixture_states_are_hidden_and_its_definition_is_kept(inner: Inner) -> None:
    inner.configure(api=SERVER, other=SERVER)
    inner.write(
        "conftest.py",
        """
        import msgspec, pytest

        @pytest.fixture(scope="session")
        def api_definition(api_definition):
            return msgspec.structs.replace(api_definition, env={"MY_SECRET": "hidden-treasure-9", "COLOUR": "green"})

        @pytest.fixture(scope="session")
        def other_definition(other_definition):
            return msgspec.structs.replace(other_definition, env={"MY_SECRET": "of-one-test-only-1"})
        """,
    )
    inner.write(
        "test_fails.py",
        """
        import urllib.request

        def test_fails(api, new_daemon):
            new_daemon("other")
            for secret in ("hidden-treasure-9", "of-one-test-only-1"):
                urllib.request.urlopen(f"{api.url}/?said={secret}", timeout=20)
            raise AssertionError
        """,
    )
    outcome = inner.run("--neo-daemons-artifacts=kept")
    assert outcome.code == 1, outcome.text
    kept = inner.root / "kept"
    told = {path.name: path.read_text() for path in kept.rglob("*") if path.is_file()}
    secrets = ("hidden-treasure-9", "of-one-test-only-1")
    assert [(name, secret) for name, text in told.items() for secret in secrets if secret in text] == []
    assert told["api.log"].count("said=***") == 2
    definitions = {definition["name"]: definition for definition in json.loads(told["definitions.json"])}
    assert definitions["api"]["env"] == {"MY_SECRET": "***", "COLOUR": "green"}
    assert len(definitions) == 3, "that of the test, which is gone, too"


def test_a_run_that_fails_only_at_its_end_keeps_its_artifacts(inner: Inner) -> None:
    inner.configure(api=SERVER)
    inner.write("conftest.py", "def pytest_sessionfinish(session): session.exitstatus = 1\n")
    inner.write("test_passes.py", "def test_passes(api): pass\n")
    outcome = inner.run("--neo-daemons-artifacts=kept", "--neo-daemons-report=page.html")
    assert outcome.code == 1, outcome.text
    assert (inner.root / "kept/logs/api.log").exists() or (inner.root / "kept/journal.jsonl").exists()
    assert page_of(inner)["outcome"] == "failed"


def test_logs_are_cut_to_their_end(inner: Inner) -> None:
    inner.configure(api=inner.toy("flood=150000"))
    inner.write("test_fails.py", "def test_fails(api): raise AssertionError\n")
    inner.run("--neo-daemons-artifacts=kept")
    log = (inner.root / "kept/logs/api.log").read_text()
    assert len(log) < 1_100_000
    assert log.startswith("[neo-daemons: the first ")
    assert "line 000149999" in log
    assert (inner.root / "kept/page.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_artifacts_that_cannot_be_kept_are_an_error_before_anything_starts(inner: Inner, path: str) -> None:
    inner.configure(api=inner.toy())
    inner.write("file", "")
    inner.write("test_never.py", "def test_never(api): pass\n")
    refused(inner, inner.run(f"--neo-daemons-artifacts={path}"), ("--neo-daemons-artifacts", "file is not a directory"))


@MODES
def test_step_summary_gets_a_table_of_the_daemons(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.env["GITHUB_STEP_SUMMARY"] = str(inner.root / "summary.md")
    inner.write("summary.md", "before\n")
    inner.write(
        "test_kills.py",
        """
        import os, signal

        def test_kills(api):
            before = api.restarts
            os.kill(api.pid, signal.SIGKILL)
            while api.restarts == before:
                pass
            api.wait_ready()
        """,
    )
    assert inner.run(*mode).code == 0, inner.output()
    before, title, _, *table = (inner.root / "summary.md").read_text().splitlines()
    assert (before, title) == ("before", "### neo-daemons: passed")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table if row.startswith("| ")]
    assert rows[0] == ["daemon", "state", "starts", "restarts", "ready after", "incidents"]
    assert [row[:4] + row[5:] for row in rows[1:]] == [["api", "ready", "2", "1", "1"]]
    assert rows[1][4].endswith(" s")
    assert any(line.startswith("* api died at") and "SIGKILL" in line for line in table)


def test_step_summary_that_cannot_be_written_does_not_fail_the_run(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.env["GITHUB_STEP_SUMMARY"] = str(inner.root / "missing" / "summary.md")
    inner.write("test_passes.py", "def test_passes(api): pass\n")
    outcome = inner.run(*PARALLEL)
    assert outcome.code == 0, outcome.text
    assert "GITHUB_STEP_SUMMARY" in outcome.text
    assert "cannot be written: No such file or directory" in outcome.text


def test_step_summary_of_a_run_without_daemons_stays_as_it_is(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.env["GITHUB_STEP_SUMMARY"] = str(inner.root / "summary.md")
    inner.write("test_passes.py", "def test_passes(): pass\n")
    assert inner.run().code == 0, inner.output()
    assert not (inner.root / "summary.md").exists()


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY",
        "apiKey",
        "GITHUB_TOKEN",
        "x-api-key",
        "DB_PASSWORD",
        "PASSWD",
        "client_secret",
        "Authorization",
        "SENTRY_DSN",
        "KEY",
    ],
)
def test_name_looks_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["PATH", "KEYBOARD", "MONKEY", "PWD", "COMPASS", "HOME", "PATTERN"])
def test_name_looks_harmless(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it is value-one here", "it is *** here"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": "***", "n": 1}'),
        ("API_KEY=abc next", "API_KEY=*** next"),
        ("--auth-token abc --port 1", "--auth-token *** --port 1"),
        ("Authorization: Bearer abcdefgh.x", "Authorization: *** ***"),
        ("postgres://me:pw@host/db", "postgres://***@host/db"),
        ("assert token == other", "assert token == other"),
        ("sorted(found, key=len)", "sorted(found, key=len)"),
        ("token:\nnext line", "token:\nnext line"),
        ("two lines\nof value", "***\n***"),
        ("max_tokens=8, 'prompt_tokens': 12; cookies: 3", "max_tokens=8, 'prompt_tokens': 12; cookies: 3"),
        ("token=12345678 password=1234", "token=*** password=***"),
        ("def f(token: str, secret=None)", "def f(token: str, secret=None)"),
        ("https://cdn.example/@scope/pkg", "https://cdn.example/@scope/pkg"),
        ("test test_word wordy", "*** test_word wordy"),
        ("long-enough-secret inlong-enough-secretside", "*** in***side"),
    ],
)
def test_text_is_shown_without_secrets(text: str, shown: str) -> None:
    variables = {"MY_SECRET": "value-one", "MY_KEY": "two lines\nof value", "PLAIN": "here"}
    words = {"API_KEY": "test", "OTHER_KEY": "long-enough-secret"}
    assert Redactor([variables, words]).text(text) == shown


def test_names_of_tests_are_left_alone_by_secrets_that_are_words() -> None:
    redactor = Redactor([{"API_KEY": "test", "OTHER_KEY": "long-enough-secret"}])
    assert redactor.known("tests/test_a.py::test[long-enough-secret]") == "tests/test_a.py::test[***]"


@pytest.mark.parametrize("piece", ["//a", "a.", "token=", "x"])
def test_a_long_line_is_redacted_step_by_step(piece: str) -> None:
    assert Redactor([{"API_KEY": "test"}]).text(piece * 1_000_000)  # quadratic, this would take hours


def test_structure_is_shown_without_secrets() -> None:
    value = {"command": ["run", "--token", "abc", "x"], "env": {"KEY": "k", "REF": "${env.KEY}", "N": 5}}
    assert Redactor([]).structure(value) == {
        "command": ["run", "--token", "***", "x"],
        "env": {"KEY": "***", "REF": "${env.KEY}", "N": 5},
    }
