"""The options and settings of the plugin: where they are said, and what is wrong with them."""

from __future__ import annotations

import pytest

from .inner import PARALLEL, Inner, refused

pytestmark = pytest.mark.long


def test_the_flag_may_stand_before_a_path(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("tests/test_on.py", "def test_api(api):\n    assert api.state == 'ready'\n")
    outcome = inner.run("--neo-daemons", "tests/", on=False)
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert inner.starts() == 1


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--collect-only",), "test_api"),
        (("--fixtures",), "api [session scope]"),
        (("--markers",), "@pytest.mark.neo_daemons(*names, isolated=False)"),
        (("--help",), "--neo-daemons-keep"),
        (("--setup-plan", "-n", "2"), ""),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_that_only_list_start_nothing_and_leave_nothing(
    inner: Inner, arguments: tuple[str, ...], shown: str
) -> None:
    inner.configure(api=inner.toy())
    inner.write("pytest.ini", "[pytest]\nneo_daemons = true\nneo_daemons_keep = 10m\n")
    inner.write("test_on.py", "def test_api(api):\n    raise AssertionError\n")
    outcome = inner.run(*arguments, on=False)
    assert outcome.code == 0, outcome.text
    assert shown in outcome.text
    assert inner.starts() == 0
    assert list(inner.tmp.glob("neo-daemons*")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--neo-daemons-keep soon", ("--neo-daemons-keep", "soon", "90s")),
        ("--neo-daemons-keep=-1s", ("--neo-daemons-keep", "-1s")),
        ("--neo-daemons-keep 99999h", ("--neo-daemons-keep", "99999h", "week")),
        pytest.param(f"--neo-daemons-keep {'9' * 5000}", ("--neo-daemons-keep", "week"), id="keep-long"),
        ("--neo-daemons-url x=http://y --neo-daemons-url x=http://z", ("--neo-daemons-url", "x", "different URLs")),
        ("--neo-daemons-url chroma", ("--neo-daemons-url", "chroma", "NAME=URL")),
        ("--neo-daemons-url x=ftp://y", ("--neo-daemons-url", "ftp://y")),
        ("--neo-daemons-url Bad!=http://x", ("--neo-daemons-url", "Bad!")),
        ("--neo-daemons-config missing.toml", ("missing.toml",)),
        ("--neo-daemons-config broken.toml", ("broken.toml", "TOML")),
        ("--neo-daemons-attach", ("--neo-daemons-attach", "no supervisor", ".neo-daemons")),
        ("--neo-daemons-attach tests", ("--neo-daemons-attach", "test path")),
        ("--neo-daemons-attach broken.toml", ("--neo-daemons-attach broken.toml: ", "broken.toml is not a directory")),
        ("--neo-daemons-attach= --neo-daemons-url x=http://y", ("--neo-daemons-attach", "--neo-daemons-url")),
        ("--neo-daemons-attach= --neo-daemons-keep 5m", ("--neo-daemons-attach", "--neo-daemons-keep")),
        ("--neo-daemons-attach some/where", ("start one: neo-daemons up --state-dir some/where",)),
        ("--neo-daemons-keep=", ("--neo-daemons-keep: empty value",)),
        ("--neo-daemons-config=", ("--neo-daemons-config: empty value",)),
        ("-o neo_daemons_keep=soon", ("-o neo_daemons_keep = soon: invalid duration",)),
    ],
)
def test_an_invalid_option_is_a_usage_error(inner: Inner, arguments: str, words: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write("broken.toml", "[daemons.api\n")
    inner.write("tests/test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(*arguments.split()), words)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("neo_daemons_keep = soon", ("pytest.ini: neo_daemons_keep = soon: invalid duration",)),
        ("neo_daemons_keep = 99999h", ("pytest.ini: neo_daemons_keep = 99999h: longer",)),
        ("neo_daemons_url = foo", ("pytest.ini: neo_daemons_url = foo: expected NAME=URL",)),
        ("neo_daemons_url = x=ftp://y", ("pytest.ini: neo_daemons_url = x=ftp://y",)),
        ("neo_daemons_config = missing.toml", ("missing.toml",)),
        ("neo_daemons_attach = nowhere", ("pytest.ini: neo_daemons_attach: ", "nowhere", "up --state-dir ")),
        ("neo_daemons_required = maybe", ("pytest.ini: neo_daemons_required = ", "maybe", "true or false")),
        ("neo_daemons_export_env = maybe", ("pytest.ini: neo_daemons_export_env = ", "maybe", "true or false")),
    ],
)
def test_an_invalid_setting_is_a_usage_error(inner: Inner, setting: str, words: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write("pytest.ini", f"[pytest]\nneo_daemons = true\n{setting}\n")
    inner.write("test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(*PARALLEL, on=False), words)


BROKEN = """
    import neo_daemons.config.configuration as ours

    def load(*arguments, **keywords):
        raise TypeError("takes 2 arguments")

    ours.load = load
"""


def test_a_bug_at_the_start_of_a_run_is_one_line_unless_the_traceback_is_wanted(inner: Inner) -> None:
    """It was an INTERNALERROR."""
    inner.configure(api=inner.toy())
    inner.write("conftest.py", BROKEN)
    inner.write("test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(), ("neo-daemons: internal error: TypeError: takes 2 arguments;", "report it"))
    inner.env["NEO_DAEMONS_TRACEBACK"] = "1"
    outcome = inner.run()
    assert outcome.code == pytest.ExitCode.USAGE_ERROR
    assert "in load" in outcome.text
