"""Sessions under attack: each test is named after what once went wrong."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from neo_daemons.config import load
from neo_daemons.control.api import SessionSettings
from neo_daemons.control.client import Client, ControlError
from neo_daemons.definitions import Definition, Port
from neo_daemons.ephemeral.launch import own
from neo_daemons.state_dir import StateDir
from pytest_neo_daemons.sessions import RECOVERY_S, JoinedSession, OwnSession
from pytest_neo_daemons.unavailable import Unavailable
from tests.harness import is_alive, until

from .inner import HTTP, Inner

SLOW_TO_END = {"stop": {"grace_s": 1.0}}
WAIT_S = 60.0


class Run:
    """A session owned by this process, without a pytest around it."""

    def __init__(self, inner: Inner) -> None:
        owned = own(inner.root, None, warm=False)
        configuration = load(state_dir=owned.state_dir.path, directory=inner.root, isolated=True)
        self.definitions = {definition.name: definition for definition in configuration.definitions}
        owned.begin(configuration, keep_s=0.0)
        self.session = OwnSession(owned, self.definitions, found=False)
        self.session.need_supervisor()
        self.client = self.session.client

    def like(self, name: str, original: str) -> Definition:
        """Another daemon like a configured one."""
        definition = self.definitions[original]
        return msgspec.structs.replace(definition, name=name, ports=dict.fromkeys(definition.ports, Port()))

    def names(self) -> set[str]:
        """Of the daemons."""
        return {daemon.name for daemon in self.client.status().daemons}

    def event(self, event: str, name: str) -> None:
        """Wait for something to have happened."""
        until(lambda: any(entry.event == event for entry in self.client.events(100, name)), f"{event} of {name}")


@pytest.fixture
def run(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    inner.configure(api=inner.toy(), stubborn=inner.toy("ignore-term", **SLOW_TO_END))
    monkeypatch.setattr("tempfile.tempdir", str(inner.tmp))
    run = Run(inner)
    yield run
    run.session.close()
    assert inner.left() == []


def in_thread(work: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
    thread.start()
    return thread


@pytest.mark.long
def test_a_daemon_that_a_reload_drops_cannot_be_started_meanwhile(run: Run, inner: Inner) -> None:
    for name in ("api", "stubborn"):
        assert run.client.need(name, wait_s=WAIT_S).daemon.ready
    # It waits for the stubborn one's grace; api is down long before.
    thread = in_thread(lambda: run.client.set_up([run.like("kept", "api")], keep_s=0.0))
    run.event("stopped", "api")
    with pytest.raises(ControlError, match="daemon 'api'"):
        run.client.need("api", wait_s=WAIT_S)
    thread.join()
    assert run.names() == {"kept"}
    until(lambda: [name for _, name in inner.daemons()] in ([], ["kept"]), "the others to be gone")


def test_definitions_that_arrive_at_the_same_time_are_all_kept(run: Run) -> None:
    run.client.define(run.like("old", "stubborn"))
    assert run.client.need("old", wait_s=WAIT_S).daemon.ready
    threads = [in_thread(run.client.remove, "old")]
    run.event("stopping", "old")
    threads += [in_thread(run.client.define, run.like(name, "api")) for name in ("a", "b", "c")]
    for thread in threads:
        thread.join()
    assert run.names() == {"api", "stubborn", "a", "b", "c"}
    assert all(run.client.need(name, wait_s=WAIT_S).daemon.ready for name in ("a", "b", "c"))


@pytest.mark.long
def test_a_daemon_that_is_being_replaced_is_waited_for(run: Run) -> None:
    assert run.client.need("stubborn", wait_s=WAIT_S).daemon.ready
    changed = msgspec.structs.replace(run.definitions["stubborn"], env={"CHANGED": "1"})
    thread = in_thread(run.client.define, changed)
    run.event("stopping", "stubborn")
    needed = run.client.need("stubborn", wait_s=WAIT_S)
    thread.join()
    assert needed.failure is None
    assert needed.daemon.ready


def test_a_supervisor_that_takes_over_can_still_remove_and_refuse(run: Run) -> None:
    run.client.define(run.like("own", "api"))
    pid = run.client.need("own", wait_s=WAIT_S).daemon.pid
    os.kill(run.client.status().supervisor.pid, signal.SIGKILL)
    assert run.session.need("own").pid == pid
    with pytest.raises(ControlError, match="has already changed it differently"):
        run.client.define(msgspec.structs.replace(run.like("own", "api"), env={"OTHER": "1"}))
    run.client.remove("own")
    assert run.names() == {"api", "stubborn"}
    assert pid is not None
    assert not is_alive(pid)


def test_the_child_of_a_fork_does_not_keep_the_daemons_of_a_killed_run(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_fork.py",
        """
        import os, pathlib, time

        def test_fork(api):
            child = os.fork()
            if child == 0:
                time.sleep(300)
                os._exit(0)
            pathlib.Path("child").write_text(str(child))
            pathlib.Path("here").touch()
            time.sleep(300)
        """,
    )
    process = inner.popen()
    inner.reaches("here")
    child = int((inner.root / "child").read_text())
    process.kill()
    process.wait()
    try:
        inner.wait_until_nothing_is_left()
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.long
def test_a_run_whose_temporary_directory_is_deleted_leaves_no_process(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_delete.py",
        """
        import shutil

        def test_delete(api, neo_daemons):
            shutil.rmtree(neo_daemons.state_dir.parent)
        """,
    )
    assert inner.run().counts() == {"passed": 1}, inner.output()
    inner.wait_until_nothing_is_left()


@pytest.mark.long
def test_a_warm_session_applies_a_changed_configuration_to_workers_too(inner: Inner) -> None:
    inner.configure(api=inner.toy(env={"COLOUR": "red"}))
    inner.copy("loaded.py", "conftest.py")
    inner.write(
        "test_colour.py",
        """
        import pathlib
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_colour(api, number):
            environ = pathlib.Path(f"/proc/{api.pid}/environ").read_bytes()
            assert pathlib.Path("colour").read_text().encode() in environ
        """,
    )
    (inner.root / "colour").write_text("COLOUR=red")
    keep = ("--neo-daemons-keep", "10m", "-n", "2")
    assert inner.run(*keep).counts() == {"passed": 4}, inner.output()
    inner.configure(api=inner.toy(env={"COLOUR": "blue"}))
    (inner.root / "colour").write_text("COLOUR=blue")
    second = inner.run(*keep)
    inner.end_warm()
    assert second.counts() == {"passed": 4}, second.text
    assert "api, kept warm by an earlier run, was updated: env changed" in second.text
    assert inner.starts() == 2
    assert inner.loaded("gw0", "neo_daemons.supervision") == {"presence"}
    assert inner.loaded("gw0", "neo_daemons.config") == {"errors"}, "the configuration is the controller's"
    assert inner.loaded("gw0", "neo_daemons.ephemeral") == set()


@pytest.mark.long
def test_a_warm_session_retries_what_failed_in_the_previous_run(inner: Inner) -> None:
    inner.configure(api=inner.toy(f"fail-if={inner.root / 'broken'}"))
    (inner.root / "broken").touch()
    inner.write("test_api.py", "def test_api(api): pass")
    keep = ("--neo-daemons-keep", "10m")
    assert inner.run(*keep).counts() == {"error": 1}, inner.output()
    (inner.root / "broken").unlink()
    second = inner.run(*keep)
    inner.end_warm()
    assert second.counts() == {"passed": 1}, second.text


@pytest.mark.long
def test_what_is_built_on_an_isolated_daemon_ends_before_it(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.copy("isolated_built.py", "test_isolated.py")
    inner.write(
        "test_unittest.py",
        """
        import unittest
        import pytest

        class TestCase(unittest.TestCase):
            @pytest.mark.neo_daemons("api", isolated=True)
            def test_not_for_test_cases(self): pass
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"error": 2, "passed": 4}, outcome.text
    assert outcome.text.count("isolated=True) works on test functions and classes only") == 2


def test_daemons_that_wait_for_each_other_are_refused_before_anything_starts(inner: Inner) -> None:
    inner.configure(a=inner.toy(), b=inner.toy())
    inner.write(
        "conftest.py",
        """
        from msgspec.structs import replace

        def pytest_neo_daemons_definitions(definitions):
            definitions["a"] = replace(definitions["a"], requires=("b",))
            definitions["b"] = replace(definitions["b"], requires=("a",))
        """,
    )
    inner.write("test_a.py", "def test_a(a): pass")
    outcome = inner.run()
    assert outcome.code == 4
    assert "dependency cycle: a → b → a" in outcome.text


@pytest.mark.long
def test_a_daemon_starts_together_with_the_daemons_that_it_references(inner: Inner) -> None:
    inner.configure(api=inner.toy(env={"STORE": "${daemons.store.url}"}), store=inner.toy(), other=inner.toy())
    inner.write("test_api.py", "def test_api(api, neo_daemons): assert neo_daemons['api'].state == 'ready'")
    inner.run()
    assert inner.starts() == 2


def test_the_record_of_a_session_is_complete_after_every_change(run: Run) -> None:
    run.client.define(run.like("own", "api"))
    content = json.loads((run.session.state_dir.path / "session.json").read_text())
    assert [definition["name"] for definition in content["definitions"]] == ["api", "stubborn"]
    assert [definition["name"] for definition in content["changed"]] == ["own"]


def test_a_session_reports_its_original_settings_not_later_changes(run: Run) -> None:
    run.client.define(run.like("own", "api"))
    run.client.define(msgspec.structs.replace(run.definitions["api"], env={"CHANGED": "1"}))
    settings = run.client.settings()
    assert {definition.name: definition for definition in settings.definitions} == run.definitions
    assert settings.keep_s == 0.0


def test_a_worker_asks_for_the_definitions_once_and_reads_no_file_of_the_supervisor(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, settings = [], Client.settings

    def counted(client: Client) -> SessionSettings:
        asked.append(client)
        return settings(client)

    monkeypatch.setattr(Client, "settings", counted)
    (run.session.state_dir.path / "session.json").unlink()
    session = JoinedSession(run.session.state_dir, run.definitions, "gw0")
    try:
        definition = session.definition("api")
        assert definition == run.definitions["api"]
        definition.env["CHANGED"] = "in place"
        assert session.definition("api") == run.definitions["api"]
        assert session.definition("nobody") is None
    finally:
        session.close()
    assert len(asked) == 1


def test_nobody_waits_again_for_a_supervisor_that_did_not_come_back(inner: Inner) -> None:
    session = JoinedSession(StateDir(inner.tmp / "gone"), ["api"], "gw0")
    try:
        with pytest.raises(Unavailable, match="no response from the supervisor"):
            session._keeper.wait(0.05)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(Unavailable, match="no response from the supervisor"):
                session.need("api")
        assert time.monotonic() - began < RECOVERY_S
    finally:
        session.close()


def test_a_supervisor_that_never_answered_does_not_count_as_replaced(inner: Inner) -> None:
    owned: Any = SimpleNamespace(
        state_dir=StateDir(inner.tmp / "gone"),
        keep_s=1.0,
        release=lambda: None,
        spawn=lambda: None,
        supervisor_lives=lambda: False,
        last_words=lambda: "cannot read it",
    )
    session = OwnSession(owned, ["api"], found=False)
    with pytest.raises(Unavailable, match="it keeps exiting; the end of its log: cannot read it"):
        session.need("api")
    session.close()
    assert session.replaced == 0


@pytest.mark.long
def test_a_session_survives_repeated_deaths_of_its_supervisor(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.copy("supervisor_dies.py", "test_dies.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 3}, outcome.text
    assert "the supervisor was killed and replaced twice; the new one adopted its daemons" in outcome.text
    assert inner.starts() == 1


def test_a_handle_waits_for_a_supervisor_that_was_just_killed(inner: Inner) -> None:
    inner.configure(api=inner.toy("write=hello"))
    inner.copy("supervisor_dies_first.py", "test_dies.py")
    assert inner.run().counts() == {"passed": 3}, inner.output()


def test_a_process_that_times_out_while_it_waits_for_a_daemon_leaves_nothing(inner: Inner) -> None:
    inner.configure(slow=inner.toy("quiet", ready={"type": "log", "pattern": "never"}, start_grace_s=600.0))
    inner.write("test_slow.py", "def test_slow(slow): pass\n")
    outcome = inner.run("--timeout=1", "--timeout-method=thread")
    assert "Timeout" in outcome.text
    assert outcome.results == {}
    inner.wait_until_nothing_is_left()
    assert inner.starts() == 1
