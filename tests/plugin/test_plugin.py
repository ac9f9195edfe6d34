"""What the plugin promises to those who use it: switched off, switched on, and by each of its options."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pty
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from neo_daemons.config import external
from pytest_neo_daemons import BridgeGraph, Daemon
from pytest_neo_daemons.sessions import RECOVERY_S
from tests.harness import PATIENCE_S, TOY, Child, Project, free_port, is_alive, toy, until

from .inner import Inner, Outcome

REASON = "needs daemons: run pytest with --neo-daemons"
PARALLEL = ("-n", "2")
MODES = pytest.mark.parametrize("mode", [(), PARALLEL], ids=["alone", "n2"])
HTTP = "import urllib.request\n\ndef get(url):\n    return urllib.request.urlopen(url, timeout=20).status\n"


def messages(outcome: Outcome) -> dict[str, str]:
    """Test → what its report says: of a failure, an error or a skip."""
    found = {}
    for case in ElementTree.fromstring(outcome.xml).iter("testcase"):
        texts = [
            f"{child.get('message')}\n{child.text}" for child in case if child.tag in ("failure", "error", "skipped")
        ]
        found[str(case.get("name"))] = "\n".join(texts)
    return found


def results(outcome: Outcome) -> dict[str, str]:
    """Test → its result, without the module's name."""
    return {name.rpartition("::")[2]: result for name, result in outcome.results.items()}


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def files(inner: Inner) -> list[str]:
    """Everything in the directories of sessions, whatever it is."""
    return [str(path) for path in inner.tmp.glob("neo-daemons-*/*")]


def accepts(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


# Off


OFF = """
    import pytest

    @pytest.fixture
    def built(api):
        raise AssertionError

    def test_plain(): pass
    def test_api(api): pass
    def test_my_api(my_api): pass
    def test_built(built): pass
    def test_chroma(chroma): pass
    def test_chroma_client(chroma_client): pass
    def test_mlx_client(mlx_client): pass
    def test_bridge_graph(bridge_graph): pass
    def test_neo_daemons(neo_daemons): pass

    @pytest.mark.neo_daemons("api")
    def test_marked(): pass

    @pytest.mark.neo_daemons("api", isolated=True)
    def test_isolated(api): pass
"""


def test_without_the_flag_what_needs_daemons_is_skipped_and_nothing_is_imported_started_or_written(
    inner: Inner,
) -> None:
    inner.configure(api=inner.toy(), **{"my-api": inner.toy()})
    inner.write("test_off.py", OFF)
    inner.write(
        "conftest.py",
        """
        import json, pathlib, sys, threading

        def pytest_unconfigure():
            mine = [m for m in sys.modules if m.partition(".")[0] in ("neo_daemons", "pytest_neo_daemons")]
            heavy = [m for m in ("msgspec", "httpx", "psutil", "starlette", "uvicorn") if m in sys.modules]
            seen = {"mine": sorted(mine), "heavy": heavy, "threads": threading.active_count()}
            pathlib.Path("seen").write_text(json.dumps(seen))
        """,
    )
    outcome = inner.run("--strict-markers", on=False)
    assert outcome.code == 0
    assert outcome.counts() == {"passed": 1, "skipped": 10}, outcome.text
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
    inner.write("test_off.py", OFF)
    outcome = inner.run("-o", "neo_daemons_required=true", on=False)
    assert outcome.code == 1
    assert outcome.counts() == {"error": 10, "passed": 1}, outcome.text
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
def test_without_the_flag_daemons_of_urls_hooks_and_definition_fixtures_are_known_too(inner: Inner, hook: str) -> None:
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


def test_without_the_flag_what_a_hook_cannot_use_is_no_error(inner: Inner) -> None:
    inner.write("neo-daemons.toml", "[daemons.api\n")
    inner.write("conftest.py", HOOK)
    inner.write("test_off.py", "def test_plain(): pass\n")
    assert inner.run(on=False).counts() == {"passed": 1}, inner.output()


# On


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
def test_looking_starts_nothing_and_leaves_nothing(inner: Inner, arguments: tuple[str, ...], shown: str) -> None:
    inner.configure(api=inner.toy())
    inner.write("pytest.ini", "[pytest]\nneo_daemons = true\nneo_daemons_keep = 10m\n")
    inner.write("test_on.py", "def test_api(api):\n    raise AssertionError\n")
    outcome = inner.run(*arguments, on=False)
    assert outcome.code == 0, outcome.text
    assert shown in outcome.text
    assert inner.starts() == 0
    assert list(inner.tmp.glob("neo-daemons*")) == []


# Options that cannot be used


def refused(inner: Inner, outcome: Outcome, words: tuple[str, ...]) -> None:
    """The run is refused, with one line of an error, and nothing is left."""
    errors = [line for line in outcome.text.splitlines() if line.startswith("ERROR")]
    assert outcome.code == pytest.ExitCode.USAGE_ERROR, outcome.text
    assert len(errors) == 1, outcome.text
    assert [word for word in words if word not in errors[0]] == []
    assert "Traceback" not in outcome.text
    assert "INTERNALERROR" not in outcome.text
    assert (inner.left(), files(inner), inner.starts()) == ([], [], 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--neo-daemons-keep soon", ("--neo-daemons-keep", "soon", "90s")),
        ("--neo-daemons-keep=-1s", ("--neo-daemons-keep", "-1s")),
        ("--neo-daemons-keep 99999h", ("--neo-daemons-keep", "99999h", "week")),
        pytest.param(f"--neo-daemons-keep {'9' * 5000}", ("--neo-daemons-keep", "week"), id="keep-long"),
        ("--neo-daemons-url x=http://y --neo-daemons-url x=http://z", ("--neo-daemons-url", "x", "twice")),
        ("--neo-daemons-url chroma", ("--neo-daemons-url", "chroma", "NAME=URL")),
        ("--neo-daemons-url x=ftp://y", ("--neo-daemons-url", "ftp://y")),
        ("--neo-daemons-url Bad!=http://x", ("--neo-daemons-url", "Bad!")),
        ("--neo-daemons-config missing.toml", ("missing.toml",)),
        ("--neo-daemons-config broken.toml", ("broken.toml", "TOML")),
        ("--neo-daemons-attach", ("--neo-daemons-attach", "no supervisor", ".neo-daemons")),
        ("--neo-daemons-attach tests", ("--neo-daemons-attach", "test path")),
        ("--neo-daemons-attach= --neo-daemons-url x=http://y", ("--neo-daemons-attach", "--neo-daemons-url")),
    ],
)
def test_an_option_that_makes_no_sense_is_a_usage_error(inner: Inner, arguments: str, words: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write("broken.toml", "[daemons.api\n")
    inner.write("tests/test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(*arguments.split()), words)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("neo_daemons_keep = soon", ("keep", "soon")),
        ("neo_daemons_url = x=ftp://y", ("x=ftp://y",)),
        ("neo_daemons_config = missing.toml", ("missing.toml",)),
        ("neo_daemons_attach = nowhere", ("attach", "nowhere")),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_usage_error(inner: Inner, setting: str, words: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write("pytest.ini", f"[pytest]\nneo_daemons = true\n{setting}\n")
    inner.write("test_on.py", "def test_api(api): pass\n")
    refused(inner, inner.run(*PARALLEL, on=False), words)


# Clients


@pytest.mark.real
def test_a_client_of_chroma_leaves_no_descriptor_and_no_database_behind(inner: Inner) -> None:
    inner.configure(chroma={})
    inner.write(
        "test_client.py",
        """
        import json, os, pytest, urllib.request

        SEEN = []

        @pytest.mark.parametrize("number", range(4))
        def test_client(chroma_client, chroma, number):
            chroma_client.create_collection("things").add(ids=["1"], embeddings=[[0.0, 1.0]])
            SEEN.append(len(os.listdir("/proc/self/fd")))

        def test_left(chroma):
            assert SEEN[-1] == SEEN[1], SEEN
            url = f"{chroma.url}/api/v2/tenants/default_tenant/databases"
            databases = json.load(urllib.request.urlopen(url, timeout=20))
            assert [database["name"] for database in databases] == ["default_database"]
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 5}, outcome.text


# What is started


@MODES
def test_only_what_the_selected_tests_use_and_what_that_requires_is_started_once(
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


def test_what_no_test_uses_in_truth_is_not_started(inner: Inner) -> None:
    names = ("skipped", "conditional", "unrun", "value", "mine", "asked")
    inner.configure(api=inner.toy(), **{name: inner.toy() for name in names})
    inner.write(
        "test_on.py",
        """
        import pytest

        @pytest.fixture
        def mine():
            return "mine"

        @pytest.mark.skip(reason="known to be broken")
        def test_skip(skipped): raise AssertionError

        @pytest.mark.skipif(True, reason="not here")
        @pytest.mark.neo_daemons("conditional")
        def test_skipif(): raise AssertionError

        @pytest.mark.xfail(run=False)
        def test_xfail(unrun): raise AssertionError

        @pytest.mark.parametrize("value", [1])
        def test_value(value):
            assert value == 1

        def test_mine(mine):
            assert mine == "mine"

        def test_asked(neo_daemons, api):
            assert "asked" in neo_daemons and "nobody" not in neo_daemons
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 3, "skipped": 3}, outcome.text
    assert inner.starts() == 1


# Handles


def test_a_handle_tells_and_does_what_it_says(inner: Inner) -> None:
    inner.configure(
        api=inner.toy(
            "write=hello there",
            data_dir=str(inner.root / "precious"),
            exports={"API_URL": "http://${host}:${port}", "API_DATA": "${data_dir}"},
        )
    )
    inner.write("helpers.py", HTTP)
    inner.write(
        "test_handle.py",
        """
        import pathlib
        import pytest
        from helpers import get
        from pytest_neo_daemons import Daemon

        def kernel_state(pid):
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

        def test_tells(api, neo_daemons):
            assert isinstance(api, Daemon)
            assert (api.name, api.host, api.state, api.external) == ("api", "127.0.0.1", "ready", False)
            assert api.url == f"http://127.0.0.1:{api.port}" and api.ports == {"main": api.port}
            assert get(api.url) == 200
            assert b"toy.py" in pathlib.Path(f"/proc/{api.pid}/cmdline").read_bytes()
            assert api.data_dir.is_dir() and api.data_dir.is_relative_to(neo_daemons.state_dir)
            assert api.log_path.is_relative_to(neo_daemons.state_dir)
            assert api.env == {"API_URL": api.url, "API_DATA": str(api.data_dir)}
            assert "hello there" in api.logs() and "hello there" in api.log_path.read_text()
            api.wait_ready()

        def test_restart(api):
            pid = api.pid
            api.restart()
            assert api.state == "ready" and api.pid not in (None, pid)
            assert get(api.url) == 200

        def test_kill(api):
            pid, port, restarts = api.pid, api.port, api.restarts
            api.kill()
            api.wait_ready()
            assert api.pid not in (None, pid) and api.port == port and api.restarts == restarts + 1
            assert get(api.url) == 200

        def test_pause(api):
            pid = api.pid
            api.pause()
            assert kernel_state(pid) == "T"
            api.resume()
            assert get(api.url) == 200 and api.pid == pid

        def test_stop(api):
            api.stop()
            assert (api.state, api.pid) == ("stopped", None)
            with pytest.raises(OSError, match="refused"):
                get(api.url)
            api.start()
            assert api.state == "ready" and get(api.url) == 200

        def test_leaves_it_stopped(api):
            api.stop()

        def test_after_stopped(api):
            assert api.state == "ready" and get(api.url) == 200

        def test_leaves_it_paused(api):
            api.pause()

        def test_after_paused(api):
            assert get(api.url) == 200

        def test_leaves_it_stopped_and_fails(api):
            api.stop()
            raise AssertionError

        def test_after_the_failure(api):
            assert get(api.url) == 200
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"failed": 1, "passed": 10}, outcome.text
    assert results(outcome)["test_leaves_it_stopped_and_fails"] == "failed"
    assert not (inner.root / "precious").exists()


def test_a_daemon_may_be_killed_again_and_again(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.write(
        "test_kills.py",
        """
        import pytest
        from helpers import get

        @pytest.mark.parametrize("number", range(3))
        def test_waits(api, number):
            pid = api.pid
            api.kill()
            api.wait_ready()
            assert api.pid not in (None, pid) and get(api.url) == 200

        def test_leaves_it_dead(api):
            api.kill()

        def test_after_dead(api):
            assert get(api.url) == 200
        """,
    )
    assert inner.run().counts() == {"passed": 5}, inner.output()
    assert inner.starts() == 5


# Names and ports


def test_names_and_ports_hide_nothing_and_collide_with_nothing(inner: Inner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        inner.configure(api=inner.toy(port=port), cache=inner.toy(), **{"my-api": inner.toy(), "tmp-path": inner.toy()})
        inner.write(
            "test_names.py",
            f"""
            import collections.abc, pathlib
            import pytest

            def test_another_port(api):
                assert api.port != {port}

            def test_dash(my_api, neo_daemons):
                assert my_api.name == "my-api" and neo_daemons["my-api"] is my_api

            def test_hides_nothing(cache, tmp_path, neo_daemons):
                assert isinstance(cache, pytest.Cache) and isinstance(tmp_path, pathlib.Path)
                assert neo_daemons["cache"].state == neo_daemons["tmp-path"].state == "ready"

            def test_mapping(neo_daemons, api):
                assert isinstance(neo_daemons, collections.abc.Mapping)
                assert list(neo_daemons) == ["api", "cache", "my-api", "tmp-path"] and len(neo_daemons) == 4
                assert neo_daemons["api"] is api and "nope" not in neo_daemons
                with pytest.raises(KeyError, match="no daemon 'nope'; configured: api, cache, my-api, tmp-path"):
                    neo_daemons["nope"]

            def test_chroma(chroma):
                raise AssertionError
            """,
        )
        outcome = inner.run("-p", "cacheprovider")
    assert outcome.counts() == {"error": 1, "passed": 4}, outcome.text
    assert "configured: api, cache, my-api, tmp-path" in messages(outcome)["test_chroma"]


def test_without_the_flag_a_daemon_called_like_a_fixture_of_pytest_hides_nothing(inner: Inner) -> None:
    inner.configure(cache=inner.toy(), **{"tmp-path": inner.toy()})
    inner.write("test_names.py", "def test_plain(cache, tmp_path):\n    assert tmp_path.is_dir()\n")
    assert inner.run("-p", "cacheprovider", on=False).counts() == {"passed": 1}, inner.output()


# Hooks


def test_hooks_change_the_definitions_once_and_hear_of_the_daemons(inner: Inner) -> None:
    inner.configure(api=inner.toy(), gone=inner.toy())
    inner.write(
        "conftest.py",
        """
        import msgspec, os, pathlib

        HERE = pathlib.Path(__file__).parent

        def tell(*words):
            with (HERE / "heard").open("a") as file:
                print(*words, os.environ.get("PYTEST_XDIST_WORKER", "controller"), file=file)

        def pytest_neo_daemons_definitions(config, definitions):
            tell("definitions", *definitions)
            definitions["api"] = msgspec.structs.replace(definitions["api"], env={"COLOUR": "blue"})
            definitions["added"] = msgspec.structs.replace(definitions["api"], name="added", env={})
            del definitions["gone"]

        def pytest_neo_daemons_ready(config, daemon):
            tell("ready", daemon.name)

        def pytest_neo_daemons_died(config, incident):
            tell("died", incident.daemon, incident.asked_for)

        def pytest_neo_daemons_restarted(config, incident):
            tell("restarted", incident.daemon, incident.back_after_s is not None)
        """,
    )
    inner.write(
        "test_hooks.py",
        """
        import pathlib

        def environ(daemon):
            return pathlib.Path(f"/proc/{daemon.pid}/environ").read_bytes().split(bytes(1))

        def test_changed(api):
            assert b"COLOUR=blue" in environ(api)

        def test_added(added):
            assert b"COLOUR=blue" not in environ(added)

        def test_killed(api):
            api.kill()
            api.wait_ready()

        def test_gone(gone): pass
        """,
    )
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


def test_a_hook_that_makes_a_wrong_definition_is_a_usage_error(inner: Inner) -> None:
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
def test_a_hook_that_makes_what_no_supervisor_could_read_is_a_usage_error(
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
def test_a_definition_fixture_that_makes_what_no_supervisor_could_read_fails_the_test_and_no_supervisor(
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


# Definitions that fixtures change


OVERRIDE = """
    import msgspec, os, pathlib, pytest

    @pytest.fixture(scope="session")
    def api_definition(api_definition, tmp_path_factory):
        return msgspec.structs.replace(api_definition, env={{"COLOUR": {colour}}})
"""
COLOURED = """
    import pathlib, pytest

    @pytest.mark.parametrize("number", range(4))
    def test_api(api, number):
        assert {expected} in pathlib.Path(f"/proc/{{api.pid}}/environ").read_text().split(chr(0))
"""


@MODES
def test_an_overridden_definition_is_all_that_is_ever_started(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", OVERRIDE.format(colour="'blue'"))
    inner.write("test_over.py", COLOURED.format(expected="'COLOUR=blue'"))
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert inner.starts() == 1


def test_an_overridden_definition_counts_too_where_a_daemon_is_reached_by_a_marker_or_by_its_name(
    inner: Inner,
) -> None:
    inner.configure(api=inner.toy(), other=inner.toy(), config=inner.toy())
    inner.write(
        "conftest.py", OVERRIDE.format(colour="'blue'") + OVERRIDE.format(colour="'red'").replace("api", "other")
    )
    inner.write(
        "test_over.py",
        """
        import pathlib, pytest

        def colour(daemon):
            lines = pathlib.Path(f"/proc/{daemon.pid}/environ").read_text().split(chr(0))
            return [line for line in lines if line.startswith("COLOUR=")]

        @pytest.mark.neo_daemons("api", "config")
        def test_marker(): pass

        @pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.neo_daemons("api"))])
        def test_parameter(number, request):
            assert any("api" in name for name in request.fixturenames) == (number == 2)

        def test_marked(neo_daemons):
            assert colour(neo_daemons["api"]) == ["COLOUR=blue"]
            assert colour(neo_daemons["config"]) == []

        def test_index(neo_daemons):
            assert colour(neo_daemons["other"]) == ["COLOUR=red"]
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 5}, outcome.text
    assert inner.starts() == 3


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


def test_definitions_that_differ_from_worker_to_worker_are_refused(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("conftest.py", OVERRIDE.format(colour="str(tmp_path_factory.getbasetemp())"))
    inner.write("test_over.py", COLOURED.format(expected="'PATH=' + __import__('os').environ['PATH']"))
    outcome = inner.run(*PARALLEL)
    assert outcome.counts() == {"error": 2, "passed": 2}, outcome.text
    told = [text for text in messages(outcome).values() if text]
    assert all("cannot change api" in text and "the same everywhere" in text for text in told)
    assert "Traceback" not in outcome.text
    assert inner.starts() == 1


def test_an_isolated_test_has_the_definition_that_is_overridden_beside_it(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    plain = "'PATH=' + __import__('os').environ['PATH']"
    inner.write("a/test_first.py", COLOURED.format(expected=plain))
    inner.write("b/conftest.py", OVERRIDE.format(colour="'blue'"))
    over = COLOURED.format(expected="'COLOUR=blue'").replace(
        "@", '@pytest.mark.neo_daemons("api", isolated=True)\n    @'
    )
    inner.write("b/test_over.py", over)
    inner.write("c/test_last.py", COLOURED.format(expected=plain))
    assert inner.run().counts() == {"passed": 12}, inner.output()
    assert inner.starts() == 1 + 4


def test_an_isolated_instance_is_called_like_no_other(inner: Inner) -> None:
    names = [f"api-main-{number}" for number in (1, 2)]
    inner.configure(api=inner.toy(), **{name: inner.toy() for name in names})
    inner.write(
        "test_names.py",
        """
        import pytest

        SEEN = set()

        def test_first(api_main_1, api_main_2):
            SEEN.update({api_main_1.pid, api_main_2.pid})

        @pytest.mark.neo_daemons("api", isolated=True)
        @pytest.mark.parametrize("number", [1, 2])
        def test_isolated(api, number):
            assert api.name not in SEEN and api.pid not in SEEN
            SEEN.update({api.pid, api.name})

        def test_last(api_main_1, api_main_2):
            assert {api_main_1.pid, api_main_2.pid} <= SEEN
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert inner.starts() == 4


def test_a_parameter_of_a_projects_own_isolates_nothing(inner: Inner) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.write(
        "test_own.py",
        """
        import pytest

        @pytest.fixture(params=["a", "b"], scope="session")
        def other(request, other):
            return request.param, other

        @pytest.mark.parametrize("api", ["x"], indirect=True)
        def test_indirect(api):
            assert api.name == "api"

        def test_overridden(other):
            assert other[0] in "ab" and other[1].name == "other"

        @pytest.mark.neo_daemons("other")
        def test_marked(neo_daemons):
            assert neo_daemons["other"].name == "other"
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert inner.starts() == 2


# The marker


ISOLATED = """
    import os, pathlib, signal, urllib.request
    import pytest
    from pytest_neo_daemons import FaultRefused

    HERE = pathlib.Path(__file__).parent
    PARALLEL = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1"

    @pytest.fixture
    def built(api):
        return api.pid, api.port, api.data_dir

    def check(built, api, kind):
        assert built == (api.pid, api.port, api.data_dir)
        assert urllib.request.urlopen(api.url, timeout=20).status == 200
        with (HERE / kind).open("a") as file:
            print(*built, api.log_path, file=file)

    @pytest.mark.parametrize("number", range(2))
    def test_before(built, api, number):
        check(built, api, "shared")

    @pytest.mark.neo_daemons("api", isolated=True)
    def test_isolated(built, api):
        check(built, api, "own")
        for fault in (api.kill, api.restart):
            pid = api.pid
            fault()
            api.wait_ready()
            assert api.pid != pid
        api.pause()
        api.resume()
        api.stop()
        api.start()
        (HERE / "own-pids").open("a").write(f"{api.pid}\\n")

    @pytest.mark.neo_daemons("api", isolated=True)
    @pytest.mark.parametrize("number", range(2))
    def test_another(built, api, number):
        check(built, api, "own")
        (HERE / "own-pids").open("a").write(f"{api.pid}\\n")
        api.pause()

    def test_after(built, api):
        check(built, api, "shared")

    @pytest.mark.parametrize("fault", ["kill", "pause", "resume", "stop", "start", "restart"])
    def test_refused(built, api, fault):
        check(built, api, "shared")
        if PARALLEL:
            with pytest.raises(FaultRefused, match=r"new_daemon\\('api'\\)"):
                getattr(api, fault)()
"""
ENDED = """
    import pathlib

    HERE = pathlib.Path(__file__).parent

    def alive(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def pytest_runtest_logfinish(nodeid):
        path = HERE / "own-pids"
        for pid in path.read_text().split() if path.exists() else []:
            if alive(pid):
                (HERE / "outlived").open("a").write(f"{pid} {nodeid}\\n")
"""


@MODES
def test_an_isolated_test_has_a_daemon_of_its_own_that_ends_with_it(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy(data_dir="data"))
    inner.write("test_marker.py", ISOLATED)
    if not mode:  # with workers, others' tests end meanwhile
        inner.write("conftest.py", ENDED)
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 12}, outcome.text
    assert {name for name in results(outcome) if name.startswith(("test_i", "test_an"))} == {
        "test_isolated",
        "test_another[0]",
        "test_another[1]",
    }
    own, shared = lines(inner.root / "own"), set(lines(inner.root / "shared"))
    assert len(shared) == 1
    for column in range(4):  # pid, port, data directory, log
        values = {line.split()[column] for line in (*own, *shared)}
        assert len(values) == (4 if column != 1 else len(values))
    ports = {line.split()[1] for line in own}
    assert not ports & {line.split()[1] for line in shared}
    assert not (inner.root / "outlived").exists()
    assert not (inner.root / "data").exists()
    assert inner.starts() == 1 + 3 + 3  # kill, restart and start of the first


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


def test_a_wrong_marker_is_a_clear_error_of_the_collection(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    wrong = {
        "unknown": ('neo_daemons("nope")', "api", "no such daemon; configured: api"),
        "unused": ('neo_daemons("api", isolated=True)', "", "does not use the fixture 'api'"),
        "keyword": ('neo_daemons("api", alone=True)', "api", 'write ("NAME", …)'),
        "empty": ("neo_daemons(isolated=True)", "api", 'write ("NAME", …)'),
        "nameless": ("neo_daemons", "api", 'write ("NAME", …)'),
        "type": ("neo_daemons(1)", "api", "no such daemon"),
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


# The environment of clients


def test_exported_variables_are_in_the_environment_of_the_tests_only(inner: Inner) -> None:
    inner.configure(api=inner.toy(exports={"API_URL": "http://${host}:${port}", "API_PORT": "${port}"}))
    inner.env["API_URL"] = "mine"
    inner.write(
        "conftest.py",
        """
        import os, pathlib

        def pytest_unconfigure():
            pathlib.Path("after").write_text(f"{os.environ.get('API_URL')} {os.environ.get('API_PORT')}")
        """,
    )
    inner.write(
        "test_env.py",
        """
        import os, pytest

        def test_shared(api):
            assert (os.environ["API_URL"], os.environ["API_PORT"]) == (api.url, str(api.port))

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api, neo_daemons):
            assert os.environ["API_URL"] != api.url
            assert os.environ["API_URL"] == neo_daemons["api"].url

        def test_again(api):
            assert (os.environ["API_URL"], os.environ["API_PORT"]) == (api.url, str(api.port))
        """,
    )
    outcome = inner.run("-o", "neo_daemons_export_env=true")
    assert (inner.root / "after").read_text() == "mine None"
    assert outcome.counts() == {"passed": 3}, outcome.text


def test_exported_variables_follow_a_daemon_to_another_port(inner: Inner) -> None:
    inner.configure(api=inner.toy(exports={"API_PORT": "${port}"}))
    inner.write(
        "test_env.py",
        """
        import os, socket, pytest

        @pytest.fixture(scope="module")
        def taken():
            with socket.socket() as taken:
                yield taken

        def test_moves(api, taken):
            old = api.port
            api.stop()
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", old))
            taken.listen()
            api.start()
            assert old != api.port and os.environ["API_PORT"] == str(api.port)

        def test_next(api, taken):
            assert os.environ["API_PORT"] == str(api.port)
        """,
    )
    outcome = inner.run("-o", "neo_daemons_export_env=true")
    assert outcome.counts() == {"passed": 2}, outcome.text


# Daemons that are kept warm


def pids_of(inner: Inner) -> dict[str, int]:
    return {name: pid for pid, name in inner.daemons()}


def test_a_second_run_uses_the_daemons_that_the_first_one_kept_but_those_that_changed(inner: Inner) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.write("test_warm.py", "def test_both(api, other):\n    assert api.state == other.state == 'ready'\n")
    first = inner.run("--neo-daemons-keep", "60s")
    assert first.counts() == {"passed": 1}, first.text
    before = pids_of(inner)
    assert before.keys() == {"api", "other"}
    second = inner.run("--neo-daemons-keep", "60s")
    assert second.counts() == {"passed": 1}, second.text
    assert (pids_of(inner), inner.starts()) == (before, 2)
    assert f"pid {before['api']}  reused" in second.text
    inner.configure(api=inner.toy(), other=inner.toy(env={"COLOUR": "blue"}))
    third = inner.run("--neo-daemons-keep", "60s")
    assert third.counts() == {"passed": 1}, third.text
    assert inner.starts() == 3
    assert f"pid {before['api']}  reused" in third.text
    assert "other, kept warm by an earlier run, was changed" in third.text
    inner.end_warm()


def test_a_warm_daemon_is_as_its_definition_fixture_says_and_as_stated_for_a_run_without_one(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        """
        import msgspec, pytest

        @pytest.fixture(scope="session")
        def api_definition(api_definition):
            return msgspec.structs.replace(api_definition, env={"COLOUR": "blue"})
        """,
    )
    inner.write(
        "test_warm.py",
        """
        import pathlib

        def test_api(api, request):
            blue = request.config.rootpath.joinpath("conftest.py").exists()
            assert (b"COLOUR=blue" in pathlib.Path(f"/proc/{api.pid}/environ").read_bytes()) == blue
        """,
    )
    for _ in range(3):
        outcome = inner.run("--neo-daemons-keep", "60s")
        assert outcome.counts() == {"passed": 1}, outcome.text
        assert inner.starts() == 1
    (inner.root / "conftest.py").unlink()
    plain = inner.run("--neo-daemons-keep", "60s")
    assert plain.counts() == {"passed": 1}, plain.text
    assert inner.starts() == 2
    inner.end_warm()


def test_a_short_keep_ends_by_itself_and_leaves_nothing_but_its_lock(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_warm.py", "def test_api(api): pass\n")
    assert inner.run("--neo-daemons-keep", "1s").counts() == {"passed": 1}, inner.output()
    inner.wait_until_nothing_is_left()
    (lock,) = files(inner)
    assert lock.endswith(".lock")
    assert Path(lock).stat().st_size == 0


def test_other_surroundings_are_another_supervisor(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    (inner.root / "other.toml").write_text((inner.root / "neo-daemons.toml").read_text())
    inner.write("test_warm.py", "def test_api(api): pass\n")
    assert inner.run("--neo-daemons-keep", "60s").counts() == {"passed": 1}, inner.output()
    (first,), ((daemon, _),) = inner.supervisors(), inner.daemons()
    inner.env["OF_THE_USER"] = "changed"
    second = inner.run("--neo-daemons-keep", "60s")
    assert second.counts() == {"passed": 1}, second.text
    assert not is_alive(first)
    assert not is_alive(daemon)
    assert inner.starts() == 2
    assert "reused" not in second.text
    third = inner.run("--neo-daemons-keep", "60s", "--neo-daemons-config", "other.toml")
    assert third.counts() == {"passed": 1}, third.text
    assert inner.starts() == 3
    assert "reused" not in third.text
    inner.end_warm()


def test_two_runs_at_once_never_share_warm_daemons(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_warm.py",
        """
        import pathlib, time

        def test_long(api):
            pathlib.Path("here").touch()
            deadline = time.monotonic() + 60
            while not pathlib.Path("go").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)

        def test_short(api):
            assert api.state == "ready"
        """,
    )
    first = inner.popen("-k", "long", "--neo-daemons-keep", "60s")
    inner.reaches("here")
    assert inner.run("-k", "short", "--neo-daemons-keep", "60s").counts() == {"passed": 1}, inner.output()
    assert inner.starts() == 2
    assert len(inner.supervisors()) == 1  # that of the second was not the project's warm one, and has ended with it
    (inner.root / "go").touch()
    assert first.wait(PATIENCE_S) == 0
    inner.end_warm()


# Daemons of a serve


@MODES
def test_attached_tests_use_the_daemons_of_a_serve_and_leave_them_alone(
    inner: Inner, project: Project, mode: tuple[str, ...]
) -> None:
    inner.configure(api=inner.toy(), changed=inner.toy(), down=inner.toy(exports={"DOWN": "http://${host}:${port}"}))
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("api", "changed", "down")}
    project.client.order("down", "stop", wait_s=PATIENCE_S)
    inner.write("conftest.py", OVERRIDE.format(colour="'blue'").replace("api", "changed"))
    inner.write(
        "test_attached.py",
        """
        import pytest
        from pytest_neo_daemons import FaultRefused

        @pytest.mark.parametrize("number", range(2))
        def test_same(api, neo_daemons, number):
            assert api.pid == PID and neo_daemons["api"].state == "ready"

        @pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
        def test_refused(api, fault):
            with pytest.raises(FaultRefused, match=f"cannot {fault} api: it belongs to a serve"):
                getattr(api, fault)()

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api): pass

        def test_changed(changed): pass

        def test_down(down): pass
        """.replace("PID", str(before["api"])),
    )
    outcome = inner.run("--neo-daemons-attach", *mode)
    serve = project.client.status()
    assert {daemon.name: daemon.pid for daemon in serve.daemons} == {**before, "down": None}
    assert project.daemon("down").state == "stopped"
    assert inner.starts() == 3
    assert inner.supervisors() == []
    wanted = {f"test_same[{n}]": "passed" for n in range(2)}
    wanted |= {f"test_refused[{fault}]": "passed" for fault in ("kill", "pause", "stop", "restart")}
    wanted |= dict.fromkeys(("test_isolated", "test_changed", "test_down"), "error")
    assert results(outcome) == wanted, outcome.text
    said = messages(outcome)
    assert "api cannot be isolated: it belongs to a serve" in said["test_isolated"]
    assert "it is stopped" in said["test_down"]
    assert "not for tests to change" in said["test_down"]
    project.stop()
    assert "cannot change the definition of changed: it belongs to a serve" in said["test_changed"], outcome.text


@pytest.mark.parametrize(
    ("setting", "arguments"),
    [
        ("neo_daemons_attach = ../../.neo-daemons", ["--rootdir=.."]),
        ("", ["--neo-daemons-attach", "--rootdir=.."]),
        ("", ["--neo-daemons-attach", "--neo-daemons-config=../neo-daemons.toml"]),
    ],
    ids=["setting", "root", "config"],
)
def test_the_serve_to_attach_to_is_looked_for_where_the_project_is(
    inner: Inner, project: Project, setting: str, arguments: list[str]
) -> None:
    inner.configure(api=inner.toy())
    project.serve()
    project.reaches("api", "ready")
    inner.write("ini/deep/pytest.ini", f"[pytest]\n{setting}\n")
    inner.write("away/neo-daemons.toml", '[daemons.wrong]\nexternal = "http://127.0.0.1:1"\n')
    inner.write("away/test_on.py", "def test_api(api): assert api.pid\n")
    root = inner.root
    inner.root = root / "away"
    outcome = inner.run("-c", "../ini/deep/pytest.ini", *arguments)
    inner.root = root
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert inner.starts() == 1


def test_once_the_serve_is_gone_nobody_waits_for_it(inner: Inner, project: Project) -> None:
    inner.configure(api=inner.toy())
    serve = project.serve()
    inner.write(
        "test_gone.py",
        f"""
        import os, signal, time
        import pytest
        from pytest_neo_daemons import Unavailable

        def test_gone(api):
            os.kill({serve.pid}, signal.SIGTERM)
            with pytest.raises(Unavailable, match="supervisor"):
                while time.sleep(0.01) is None:
                    api.pid

        def test_after(api):
            with pytest.raises(Unavailable, match="supervisor"):
                api.pid
        """,
    )
    began = time.monotonic()
    outcome = inner.run("--neo-daemons-attach")
    assert time.monotonic() - began < RECOVERY_S, outcome.text
    assert results(outcome) == {"test_gone": "passed", "test_after": "error"}, outcome.text


# Daemons of somebody else


def test_a_daemon_given_by_its_url_is_used_and_never_signalled(inner: Inner) -> None:
    port, dead = free_port(), free_port()
    inner.configure(own=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.write(
        "test_url.py",
        f"""
        import pytest
        from helpers import get
        from pytest_neo_daemons import FaultRefused

        def test_used(api, neo_daemons):
            assert (api.pid, api.external, api.state, api.data_dir) == (None, True, "external", None)
            assert (api.url, api.host, api.port) == ("http://127.0.0.1:{port}", "127.0.0.1", {port})
            assert get(api.url) == 200 and set(neo_daemons) == {{"own", "api", "dead"}}

        @pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
        def test_refused(api, fault):
            with pytest.raises(FaultRefused, match=f"cannot {{fault}} api: it is external"):
                getattr(api, fault)()

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api): pass

        def test_dead(dead): pass

        def test_own(own):
            assert get(own.url) == 200
        """,
    )
    with Child([*TOY, f"port={port}"]) as process:
        try:
            until(lambda: accepts(port), "the toy's port")
            outcome = inner.run(
                "--neo-daemons-url",
                f"api=http://127.0.0.1:{port}",
                "--neo-daemons-url",
                f"dead=http://127.0.0.1:{dead}",
            )
            assert process.poll() is None
        finally:
            process.kill()
    assert outcome.counts() == {"error": 2, "passed": 6}, outcome.text
    said = messages(outcome)
    assert "api cannot be isolated: it is external" in said["test_isolated"]
    assert f"http://127.0.0.1:{dead} is not usable" in said["test_dead"]
    assert inner.starts() == 1


@pytest.mark.parametrize(
    ("name", "url", "exports"),
    [
        ("mlx", "http://llm:8080", {"OPENAI_BASE_URL": "http://llm:8080/v1"}),
        ("mlx", "https://llm.example.com/", {"OPENAI_BASE_URL": "https://llm.example.com/v1"}),
        ("mlx", "https://llm.example.com/api/v1", {"OPENAI_BASE_URL": "https://llm.example.com/api/v1"}),
        ("chroma", "https://db", {"CHROMA_HOST": "db", "CHROMA_PORT": "443", "CHROMA_URL": "https://db"}),
        ("chroma", "http://db/$x", {"CHROMA_HOST": "db", "CHROMA_PORT": "80", "CHROMA_URL": "http://db/$$x"}),
    ],
)
def test_the_exports_of_an_external_daemon_lead_where_its_url_leads(
    name: str, url: str, exports: dict[str, str]
) -> None:
    assert external(name, url).exports == exports


@pytest.mark.parametrize(
    ("url", "port"), [("http://host", 80), ("https://host/v1", 443), ("http://host:8", 8), (None, None)]
)
def test_a_daemon_given_by_a_url_without_a_port_has_that_of_its_scheme(url: str | None, port: int | None) -> None:
    session: Any = SimpleNamespace(need=lambda name, wait_s: SimpleNamespace(url=url, ports={}, ready=True))
    handle = Daemon(session, "api", lambda: None)
    handle.wait_ready()
    if port is None:
        with pytest.raises(LookupError, match="api has no port"):
            _ = handle.port
    else:
        assert handle.port == port


def test_a_bridge_given_by_its_url_has_no_graph_and_says_why(inner: Inner) -> None:
    inner.write("test_graph.py", "def test_graph(bridge_graph): pass\n")
    port = free_port()
    with Child([*TOY, f"port={port}"]) as process:
        try:
            until(lambda: accepts(port), "the toy's port")
            outcome = inner.run("--neo-daemons-url", f"bridge=http://127.0.0.1:{port}")
        finally:
            process.kill()
    assert outcome.counts() == {"error": 1}, outcome.text
    assert "NEO_MEMORY_DB_PATH and NEO_AI_DAEMON_DIR" in messages(outcome)["test_graph"]


def test_deliveries_to_an_agent_are_not_those_to_one_whose_name_ends_alike(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "graph.db")) as connection, connection:
        connection.execute("CREATE TABLE Nodes (id, data)")
        connection.execute("CREATE TABLE Edges (id, source, target, type, data)")
    graph = BridgeGraph({"NEO_MEMORY_DB_PATH": str(tmp_path / "graph.db"), "NEO_AI_DAEMON_DIR": str(tmp_path)})
    for agent in ("@ada", "@team-ada"):
        graph.subscribe(agent)
    with contextlib.closing(sqlite3.connect(tmp_path / "graph.db")) as connection:
        nodes = [name for (name,) in connection.execute("SELECT id FROM Nodes WHERE id LIKE 'wake-%-team-ada'")]
    graph.log.write_text(f"Delivered to {nodes[0]}\n")
    assert graph.deliveries("@team-ada") == [f"Delivered to {nodes[0]}"]
    assert graph.deliveries("@ada") == []
    graph.close()


# Beside and without others


def test_supervisors_may_die_again_and_again(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.write(
        "test_dies.py",
        """
        import json, os, pytest, signal
        from helpers import get

        PIDS = set()

        @pytest.mark.parametrize("number", range(2))
        def test_killed(api, neo_daemons, number):
            api.wait_ready()
            pid = json.loads((neo_daemons.state_dir / "supervisor.json").read_text())["pid"]
            PIDS.add(api.pid)
            os.kill(pid, signal.SIGKILL)
            assert get(api.url) == 200

        def test_after(api):
            api.wait_ready()
            PIDS.add(api.pid)
            assert len(PIDS) == 1 and get(api.url) == 200
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 3}, outcome.text
    assert "the supervisor was killed and replaced 2 times; its daemons were taken over" in outcome.text
    assert inner.starts() == 1


def test_a_supervisor_that_was_just_killed_is_waited_for_by_whoever_asks_a_handle(inner: Inner) -> None:
    inner.configure(api=inner.toy("write=hello"))
    inner.write(
        "test_dies.py",
        """
        import json, os, pytest, signal

        @pytest.fixture
        def killed(api, neo_daemons):
            api.wait_ready()
            pid = json.loads((neo_daemons.state_dir / "supervisor.json").read_text())["pid"]
            os.kill(pid, signal.SIGKILL)

        def test_pid(api, killed):
            os.kill(api.pid, 0)

        def test_logs(api, killed):
            assert "hello" in api.logs()

        def test_kill(api, killed):
            api.kill()
        """,
    )
    assert inner.run().counts() == {"passed": 3}, inner.output()


def test_a_project_without_the_plugin_is_as_it_was(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_plain.py", "def test_plain(tmp_path):\n    assert tmp_path.is_dir()\n")
    outcome = inner.run("-p", "no:neo_daemons", on=False)
    assert outcome.code == 0
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert inner.left() == []


@pytest.mark.parametrize(
    "arguments",
    ["-p no:xdist --strict-markers -W error -q", "-p no:terminal", "-p no:terminal -n 2"],
)
def test_without_other_plugins_nothing_is_missed(inner: Inner, arguments: str) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_on.py",
        """
        import pytest

        def test_api(api):
            assert api.state == "ready"

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api):
            api.kill()
        """,
    )
    outcome = inner.run(*arguments.split())
    assert outcome.code == 0, outcome.text
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert inner.left() == []


def test_a_process_that_a_timeout_ends_while_it_waits_for_a_daemon_leaves_nothing(inner: Inner) -> None:
    inner.configure(slow=inner.toy("quiet", ready={"type": "log", "pattern": "never"}, start_grace_s=600.0))
    inner.write("test_slow.py", "def test_slow(slow): pass\n")
    outcome = inner.run("--timeout=1", "--timeout-method=thread")
    assert "Timeout" in outcome.text
    assert outcome.results == {}
    inner.wait_until_nothing_is_left()
    assert inner.starts() == 1


def test_the_plugin_uses_nothing_that_pytest_keeps_to_itself() -> None:
    import pytest_neo_daemons

    private = []
    for path in Path(pytest_neo_daemons.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [str(node.value)] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            private += [f"{path.name}: {name}" for name in names if name.partition(".")[0] == "_pytest"]
    assert private == []


def test_a_terminal_shows_what_a_slow_daemon_does(inner: Inner) -> None:
    go = inner.root / "go"
    program = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\nprint('up', flush=True)\n"
    inner.configure(
        slow={
            "command": [sys.executable, "-IS", "-c", f"{program}time.sleep(600)", str(go)],
            "ready": {"type": "log", "pattern": "up"},
        }
    )
    inner.write("test_slow.py", "def test_slow(slow): pass\n")
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--neo-daemons"],
        cwd=inner.root,
        env=inner.env,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    try:
        while select.select([controller], [], [], PATIENCE_S)[0]:
            try:
                shown += os.read(controller, 65536)
            except OSError:  # nobody has the terminal any more
                break
            if b"neo-daemons: slow is " in shown:
                go.touch()
        assert process.wait(PATIENCE_S) == 0, shown.decode()
    finally:
        os.close(controller)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert b"neo-daemons: slow is " in shown
