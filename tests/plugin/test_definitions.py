"""Definitions that a project changes, by hooks and by fixtures."""

from __future__ import annotations

import pytest

from .inner import COLOURED, MODES, OVERRIDE, PARALLEL, Inner, lines, messages, refused, results

pytestmark = pytest.mark.long


def test_hooks_change_the_definitions_once_and_are_told_about_the_daemons(inner: Inner) -> None:
    inner.configure(api=inner.toy(), gone=inner.toy())
    inner.copy("hooks_conftest.py", "conftest.py")
    inner.copy("hooks.py", "test_hooks.py")
    outcome = inner.run("-n", "1")
    assert results(outcome) == {
        "test_changed": "passed",
        "test_added": "passed",
        "test_killed": "passed",
        "test_gone": "error",
    }, outcome.text
    assert "fixture 'gone' not found" in outcome.text
    assert lines(inner.root / "heard") == [
        "definitions api gone controller",
        "ready api gw0",
        "ready added gw0",
        "died api True gw0",
        "restarted api True gw0",
    ]
    assert inner.starts() == 3


def test_a_hook_that_makes_an_invalid_definition_is_a_usage_error(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py", "def pytest_neo_daemons_definitions(definitions):\n    definitions['api'] = 'http://x'\n"
    )
    inner.write("test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(), ("pytest_neo_daemons_definitions", "api", "http://x"))


WRONG = pytest.mark.parametrize(
    ("setting", "field"), [("env={'N': 1}", "env"), ("start_grace_s=-3", "start_grace_s"), ("name='x'", "name")]
)


@WRONG
def test_a_hook_that_makes_a_definition_no_supervisor_can_read_is_a_usage_error(
    inner: Inner, setting: str, field: str
) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        f"""
        import msgspec

        def pytest_neo_daemons_definitions(definitions):
            definitions["api"] = msgspec.structs.replace(definitions["api"], {setting})
        """,
    )
    inner.write("test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(), ("pytest_neo_daemons_definitions", "api", field))


@WRONG
def test_a_fixture_that_makes_a_definition_no_supervisor_can_read_fails_only_the_test(
    inner: Inner, setting: str, field: str
) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_on.py",
        f"""
        import msgspec, pytest

        @pytest.fixture(scope="session")
        def api_definition(api_definition):
            return msgspec.structs.replace(api_definition, {setting})

        def test_api(api): pass

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api): pass
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"error": 2}, outcome.text
    assert [text for text in messages(outcome).values() if "api_definition" not in text or field not in text] == []
    assert "the supervisor was killed" not in outcome.text
    assert inner.starts() == 0


@pytest.mark.oldest
@MODES
def test_only_the_overridden_definition_is_ever_started(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", OVERRIDE.format(colour="'blue'"))
    inner.write("test_over.py", COLOURED.format(expected="'COLOUR=blue'"))
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert inner.starts() == 1


def test_an_overridden_definition_applies_to_daemons_reached_by_marker_or_name(
    inner: Inner,
) -> None:
    inner.configure(api=inner.toy(), other=inner.toy(), config=inner.toy())
    inner.write(
        "conftest.py", OVERRIDE.format(colour="'blue'") + OVERRIDE.format(colour="'red'").replace("api", "other")
    )
    inner.copy("overridden.py", "test_over.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 5}, outcome.text
    assert inner.starts() == 3


def test_definitions_that_differ_between_workers_are_refused(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", OVERRIDE.format(colour="str(tmp_path_factory.getbasetemp())"))
    inner.write("test_over.py", COLOURED.format(expected="'TMPDIR=' + __import__('os').environ['TMPDIR']"))
    outcome = inner.run(*PARALLEL)
    assert outcome.counts() == {"error": 2, "passed": 2}, outcome.text
    told = [text for text in messages(outcome).values() if text]
    assert all("cannot change api" in text and "same definition everywhere" in text for text in told)
    assert "Traceback" not in outcome.text
    assert inner.starts() == 1
