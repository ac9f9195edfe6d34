"""What a run starts: what its tests use, by fixtures and markers, and nothing else."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.harness import toy

from .inner import MODES, Inner, lines, messages, refused

pytestmark = pytest.mark.long


@pytest.mark.oldest
@MODES
def test_only_daemons_of_the_selected_tests_and_their_requirements_start_and_only_once(
    inner: Inner, mode: tuple[str, ...]
) -> None:
    def counted(name: str, **settings: Any) -> dict[str, Any]:
        return toy(f"pidfile={inner.root / name}", **settings)

    inner.configure(
        base=counted("base"), api=counted("api", requires=["base"]), other=counted("other"), unused=counted("unused")
    )
    inner.write(
        "test_on.py",
        """
        import pytest

        @pytest.fixture
        def through(request):
            return request.getfixturevalue("api")

        @pytest.mark.parametrize("number", range(4))
        def test_chosen(api, number): pass

        def test_chosen_by_a_name_at_run_time(through): pass

        def test_left_out(other, unused): pass
        """,
    )
    outcome = inner.run("-k", "chosen", *mode)
    assert outcome.counts() == {"passed": 5}, outcome.text
    assert [len(lines(inner.root / name)) for name in ("base", "api", "other", "unused")] == [1, 1, 0, 0]
    summary = outcome.text.rpartition("= neo-daemons =")[2]
    assert "api  http://127.0.0.1:" in summary
    assert "base  http://127.0.0.1:" in summary
    assert "other" not in summary


def test_daemons_that_no_test_actually_uses_are_not_started(inner: Inner) -> None:
    names = ("skipped", "conditional", "unrun", "value", "mine", "asked")
    inner.configure(api=inner.toy(), **{name: inner.toy() for name in names})
    inner.copy("skipped.py", "test_on.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 3, "skipped": 3}, outcome.text
    assert inner.starts() == 1


@pytest.mark.parametrize("arguments", [(), ("-o", "neo_daemons_required=true")], ids=["on", "off"])
def test_a_marked_test_that_is_skipped_needs_no_daemon(inner: Inner, arguments: tuple[str, ...]) -> None:
    inner.configure(api=toy("exit=3"))
    inner.write(
        "test_skip.py",
        """
        import pytest

        @pytest.mark.skip(reason="known to be broken")
        @pytest.mark.neo_daemons("api")
        def test_skip(): raise AssertionError

        @pytest.mark.xfail(run=False)
        @pytest.mark.neo_daemons("api")
        def test_xfail(): raise AssertionError
        """,
    )
    outcome = inner.run(*arguments, on=not arguments)
    assert outcome.counts() == {"skipped": 2}, outcome.text


def test_a_plain_marker_starts_a_daemon_without_its_fixture(inner: Inner) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.write(
        "test_marker.py",
        f"""
        import os, pathlib, pytest

        @pytest.mark.neo_daemons("api", "other")
        class TestClass:
            def test_marked(self):
                for pid in pathlib.Path({str(inner.pids)!r}).read_text().split():
                    os.kill(int(pid), 0)
        """,
    )
    assert inner.run("--strict-markers").counts() == {"passed": 1}, inner.output()
    assert inner.starts() == 2


def test_a_wrong_marker_is_a_clear_collection_error(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    wrong = {
        "unknown": ('neo_daemons("nope")', "api", "unknown daemon; configured daemons: api"),
        "unused": ('neo_daemons("api", isolated=True)', "", "requires the test to use the fixture 'api'"),
        "keyword": (
            'neo_daemons("api", alone=True)',
            "api",
            "test_x: @pytest.mark.neo_daemons('api', alone=True): expected",
        ),
        "empty": ("neo_daemons(isolated=True)", "api", "neo_daemons(isolated=True): expected names"),
        "nameless": ("neo_daemons", "api", "neo_daemons(): expected names"),
        "isolated": ("neo_daemons('api', isolated='x')", "api", "neo_daemons('api', isolated='x'): expected names"),
        "type": ("neo_daemons(1)", "api", "unknown daemon"),
    }
    for name, (marker, fixture, _) in wrong.items():
        inner.write(
            f"test_{name}.py",
            f"import pytest\n\n@pytest.mark.{marker}\ndef test_x({fixture}):\n    raise AssertionError\n",
        )
    outcome = inner.run()
    assert outcome.code == pytest.ExitCode.INTERRUPTED, outcome.text
    sections = {name: outcome.text.partition(f"test_{name}.py _")[2].partition("\n__")[0] for name in wrong}
    assert {name for name, (_, _, text) in wrong.items() if text not in sections[name]} == set(), outcome.text
    assert "Traceback" not in outcome.text
    assert "/pytest_neo_daemons/" not in outcome.text
    assert inner.starts() == 0


def test_a_projects_own_parameters_isolate_nothing(inner: Inner) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.copy("own_parameters.py", "test_own.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert inner.starts() == 2


def test_daemon_names_and_ports_shadow_nothing_and_do_not_collide(inner: Inner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        inner.configure(api=inner.toy(port=port), cache=inner.toy(), **{"my-api": inner.toy(), "tmp-path": inner.toy()})
        inner.env["PORT"] = str(port)
        inner.copy("names.py", "test_names.py")
        outcome = inner.run("-p", "cacheprovider")
    assert outcome.counts() == {"error": 1, "passed": 4}, outcome.text
    assert "configured daemons: api, cache, my-api, tmp-path" in messages(outcome)["test_chroma"]


def test_two_daemons_with_the_same_fixture_are_a_usage_error_that_leaves_nothing(inner: Inner) -> None:
    inner.configure(api=inner.toy(), **{"api-definition": inner.toy()})
    inner.write("test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(), ("two daemons", "api_definition", "rename"))
