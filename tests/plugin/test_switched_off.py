"""A run without daemons: what needs them is skipped, and nothing else is changed."""

from __future__ import annotations

import json

import pytest

from .inner import Inner, messages, refused

pytestmark = pytest.mark.long

REASON = "needs daemons: run pytest with --neo-daemons"


def test_without_the_flag_tests_that_need_daemons_skip_and_nothing_is_imported_started_or_written(
    inner: Inner,
) -> None:
    inner.configure(api=inner.toy(), **{"my-api": inner.toy()})
    inner.copy("off.py", "test_off.py")
    inner.write(
        "conftest.py",
        """
        import json, pathlib, sys, threading

        def pytest_unconfigure():
            mine = [m for m in sys.modules if m.partition(".")[0] in ("neo_daemons", "pytest_neo_daemons")]
            heavy = [m for m in ("msgspec", "h11", "httpx", "psutil") if m in sys.modules]
            seen = {"mine": sorted(mine), "heavy": heavy, "threads": threading.active_count()}
            pathlib.Path("seen").write_text(json.dumps(seen))
        """,
    )
    outcome = inner.run("--strict-markers", on=False)
    assert outcome.code == 0
    assert outcome.counts() == {"passed": 1, "skipped": 12}, outcome.text
    said = messages(outcome)
    assert said.pop("test_plain") == ""
    assert [text for text in said.values() if not text.startswith(f"{REASON}\n")] == []
    seen = json.loads((inner.root / "seen").read_text())
    parts = ("config_files", "hookspecs", "names", "off", "options", "plugin")
    mine = ["pytest_neo_daemons", *(f"pytest_neo_daemons.{part}" for part in parts)]
    assert seen == {"mine": mine, "heavy": [], "threads": 1}
    assert list(inner.tmp.iterdir()) == []


def test_without_the_flag_required_daemons_are_an_error(inner: Inner) -> None:
    inner.configure(api=inner.toy(), **{"my-api": inner.toy()})
    inner.copy("off.py", "test_off.py")
    outcome = inner.run("-o", "neo_daemons_required=true", on=False)
    assert outcome.code == 1
    assert outcome.counts() == {"error": 12, "passed": 1}, outcome.text
    assert all(REASON in text and "neo_daemons_required" in text for text in messages(outcome).values() if text)


def test_without_the_flag_a_configuration_above_the_root_directory_counts_too(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("package/pytest.ini", "[pytest]\n")
    inner.write("package/test_off.py", "def test_api(api): pass\n")
    assert inner.run("package", on=False).counts() == {"skipped": 1}, inner.output()
    assert inner.run("package").counts() == {"passed": 1}, inner.output()


HOOK = """
    import msgspec

    def pytest_neo_daemons_definitions(definitions):
        definitions["second-one"] = msgspec.structs.replace(definitions["api"], name="second-one")
"""


@pytest.mark.parametrize("hook", ["", HOOK], ids=["file", "hook"])
def test_without_the_flag_daemons_from_urls_hooks_and_definition_fixtures_are_known_too(
    inner: Inner, hook: str
) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", hook)
    inner.write("pytest.ini", "[pytest]\nneo_daemons_url = ext=http://127.0.0.1:1\n")
    second = "def test_second(second_one): pass" if hook else ""
    inner.write(
        "test_off.py",
        f"""
        def test_api(api): pass
        def test_definition(api_definition): pass
        def test_ext(ext): pass
        def test_ext_definition(ext_definition): pass
        {second}
        """,
    )
    outcome = inner.run(on=False)
    assert outcome.counts() == {"skipped": 5 if hook else 4}, outcome.text
    assert list(inner.tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--neo-daemons-config", "missing.toml"),
            ("--neo-daemons-config missing.toml: cannot be read: No such file",),
        ),
        (("--neo-daemons-config", "bad.toml"), ("--neo-daemons-config bad.toml: invalid TOML",)),
        (("--neo-daemons-config=",), ("--neo-daemons-config: empty value",)),
        (("-o", "neo_daemons=yesno"), ("-o neo_daemons =", "'yesno'", "true or false")),
        (("-o", "neo_daemons_required=yesno"), ("-o neo_daemons_required =", "'yesno'", "true or false")),
    ],
)
def test_without_the_flag_an_option_that_makes_no_sense_is_a_usage_error(
    inner: Inner, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """A missing file was ignored, and every test lacked a fixture."""
    inner.configure(api=inner.toy())
    inner.write("bad.toml", "[daemons.api\n")
    inner.write("test_off.py", "def test_api(api): pass\n")
    refused(inner, inner.run(*arguments, on=False), words)


def test_without_the_flag_a_broken_configuration_beside_a_hook_is_no_error(inner: Inner) -> None:
    inner.write("neo-daemons.toml", "[daemons.api\n")
    inner.write("conftest.py", HOOK)
    inner.write("test_off.py", "def test_plain(): pass\n")
    outcome = inner.run(on=False)
    assert outcome.counts() == {"passed": 1}, inner.output()
    assert "neo-daemons: no fixtures of daemons: " in outcome.text
    assert "neo-daemons.toml: invalid TOML: " in outcome.text


def test_without_the_flag_a_daemon_named_like_a_pytest_fixture_shadows_nothing(inner: Inner) -> None:
    inner.configure(cache=inner.toy(), **{"tmp-path": inner.toy()})
    inner.write("test_names.py", "def test_plain(cache, tmp_path):\n    assert tmp_path.is_dir()\n")
    assert inner.run("-p", "cacheprovider", on=False).counts() == {"passed": 1}, inner.output()


def test_a_configured_project_runs_without_the_plugin(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_plain.py", "def test_plain(tmp_path):\n    assert tmp_path.is_dir()\n")
    outcome = inner.run("-p", "no:neo_daemons", on=False)
    assert outcome.code == 0
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert inner.left() == []
