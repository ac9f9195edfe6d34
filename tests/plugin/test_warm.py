"""Daemons that a run keeps for the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import PATIENCE_S, is_alive

from .inner import Inner, files

pytestmark = pytest.mark.long


def pids_of(inner: Inner) -> dict[str, int]:
    return {name: pid for pid, name in inner.daemons()}


def test_a_second_run_reuses_warm_daemons_except_those_that_changed(inner: Inner) -> None:
    inner.configure(api=inner.toy(), other=inner.toy())
    inner.copy("loaded.py", "conftest.py")
    inner.write("test_warm.py", "def test_both(api, other):\n    assert api.state == other.state == 'ready'\n")
    first = inner.run("--neo-daemons-keep", "60s")
    assert first.counts() == {"passed": 1}, first.text
    before = pids_of(inner)
    assert before.keys() == {"api", "other"}
    second = inner.run("--neo-daemons-keep", "60s")
    assert second.counts() == {"passed": 1}, second.text
    assert (pids_of(inner), inner.starts()) == (before, 2)
    assert f"pid {before['api']}  reused" in second.text
    needed = {"platform", "platform.contract", "platform.file_lock", "presence"}
    assert inner.loaded("main", "neo_daemons.supervision") == needed, "nothing was started or ended"
    assert inner.loaded("main", "neo_daemons.ephemeral").isdisjoint({"standby", "supervise"})
    assert inner.loaded("main", "neo_daemons.control").isdisjoint({"address", "server"})
    inner.configure(api=inner.toy(), other=inner.toy(env={"COLOUR": "blue"}))
    third = inner.run("--neo-daemons-keep", "60s")
    assert third.counts() == {"passed": 1}, third.text
    assert inner.starts() == 3
    assert f"pid {before['api']}  reused" in third.text
    assert "other, kept warm by an earlier run, was updated" in third.text
    inner.end_warm()


def test_a_warm_daemon_follows_the_definition_fixture_of_each_run(inner: Inner) -> None:
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


def test_a_warm_session_expires_and_leaves_only_its_lock(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_warm.py", "def test_api(api): pass\n")
    assert inner.run("--neo-daemons-keep", "1s").counts() == {"passed": 1}, inner.output()
    inner.wait_until_nothing_is_left()
    (lock,) = files(inner)
    assert lock.endswith(".lock")
    assert Path(lock).stat().st_size == 0


def test_a_changed_environment_or_configuration_file_gets_another_supervisor(inner: Inner) -> None:
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
