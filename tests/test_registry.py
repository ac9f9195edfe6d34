"""The registry of a user's supervisors: true from the start of each to its end, however that comes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neo_daemons import registry
from neo_daemons.control.client import ControlError
from neo_daemons.orchestrator import PRESENCE_S
from neo_daemons.registry import Entry, Registered, Registration
from tests.harness import PATIENCE_S, Project, free_port, kill, toy, until

pytestmark = pytest.mark.long


def entries(project: Project) -> list[Entry]:
    return registry.entries((project.root / "registry",))


def daemons(project: Project) -> dict[str, Registered]:
    return {daemon.name: daemon for entry in entries(project) for daemon in entry.daemons}


def files(project: Project) -> list[Path]:
    return sorted((project.root / "registry").iterdir())


def test_serve_is_registered_from_its_start_to_its_end(project: Project) -> None:
    port = free_port()
    project.configure(api=toy(data_dir="data", port=port), idle=toy(enabled=False))
    serve = project.serve()
    project.reaches("api", "ready")
    (entry,) = entries(project)
    assert (entry.state_dir, entry.pid) == (str(project.state.path), serve.pid)
    assert entry.config == str(project.root / "neo-daemons.toml")
    assert Path(str(entry.socket)).is_socket()
    api, idle = entry.daemons
    assert api == Registered(name="api", host="127.0.0.1", ports={"main": port}, data_dir=str(project.root / "data"))
    assert (idle.name, idle.ports) == ("idle", {})
    assert stat.S_IMODE((project.root / "registry").stat().st_mode) == 0o700
    project.stop()
    assert files(project) == []


def test_a_stopped_daemon_has_no_ports_there_until_it_is_started_again(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    port = project.reaches("api", "ready").ports["main"]
    project.client.order("api", "stop", wait_s=20)
    until(lambda: daemons(project)["api"].ports == {}, "no port in the entry")
    project.client.order("api", "start", wait_s=20)
    until(lambda: daemons(project)["api"].ports == {"main": port}, "the port in the entry")


def test_an_entry_follows_a_reload(project: Project) -> None:
    project.configure(api=toy(), old=toy())
    project.serve()
    project.reaches("api", "ready")
    port = free_port()
    project.configure(api=toy(port=port), new=toy())
    project.run("reload")
    until(lambda: daemons(project).keys() == {"api", "new"}, "the daemons of the new configuration")
    until(lambda: daemons(project)["api"].ports == {"main": port}, "the new port")


def test_a_deleted_entry_is_written_again(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    for path in files(project):
        path.unlink()
    until(lambda: [daemon for daemon in daemons(project).values() if daemon.ports], "the entry")


@pytest.mark.parametrize("end", ["killed", "detached"])
def test_daemons_that_outlive_their_supervisor_stay_registered_as_long_as_they_run(project: Project, end: str) -> None:
    project.configure(api=toy(), other=toy())
    project.serve()
    api, other = project.reaches("api", "ready"), project.reaches("other", "ready")
    until(lambda: all(daemon.ports for daemon in daemons(project).values()), "the ports in the entry")
    if end == "killed":
        project.kill_supervisor()
    else:
        project.run("down", "--detach")
    kill(other.pid)
    (entry,) = until(lambda: [e for e in entries(project) if len(e.daemons) == 1], "only the survivor")
    assert (entry.daemons[0].name, entry.daemons[0].ports) == ("api", api.ports)
    assert (entry.state_dir, entry.socket) == (str(project.state.path), None)
    kill(api.pid)
    until(lambda: not entries(project), "no entry")
    assert files(project) == []
    project.run("reap")


def test_what_a_killed_supervisor_has_registered_is_replaced_by_the_next_one(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    project.kill_supervisor()
    assert len(entries(project)) == 1
    serve = project.serve()
    project.reaches("api", "ready")
    assert [entry.pid for entry in entries(project)] == [serve.pid]
    assert len(files(project)) == 2


def test_a_supervisor_that_cannot_be_registered_says_so_once_and_goes_on(project: Project) -> None:
    (project.root / "registry").write_text("in the way")
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    until(lambda: [event for event, _ in project.events() if event == "not-registered"], "the event")
    pid = project.daemon("api").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    project.back("api", pid)
    told = [detail for event, detail in project.events() if event == "not-registered"]
    assert len(told) == 1
    assert str(project.root / "registry") in str(told[0])


def test_a_session_of_tests_is_not_registered(tmp_path: Path) -> None:
    from neo_daemons.ephemeral.supervise import SessionOrchestrator
    from neo_daemons.orchestrator import AgentOrchestrator

    assert AgentOrchestrator.registers
    assert not SessionOrchestrator.registers


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "registry"
    monkeypatch.setenv(registry.VARIABLE, str(place))
    return place


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two places, as the home directory and the one that is used while that one is full."""
    places = (tmp_path / "home", tmp_path / "fallback")
    monkeypatch.setattr(registry, "directories", lambda: places)
    return places


def test_a_supervisor_replaces_what_the_one_before_it_has_registered_elsewhere(two: tuple[Path, Path]) -> None:
    home, fallback = two
    home.write_text("in the way")
    before = Registration()
    before.write(Entry(state_dir="/x", pid=1))
    assert len(list(fallback.glob("*.json"))) == 1
    os.close(before._descriptor)  # it dies
    home.unlink()
    registration = Registration()
    registration.write(Entry(state_dir="/x", pid=2))
    assert (len(list(home.glob("*.json"))), list(fallback.iterdir())) == (1, [])
    registration.close()


def test_an_entry_of_another_machine_is_left_alone(place: Path) -> None:
    registration = Registration()
    registration.write(Entry(state_dir="/x", pid=1, machine="another", daemons=(Registered(name="api"),)))
    os.close(registration._descriptor)  # as it looks where the file system has no locks between machines
    assert registry.entries() == []
    assert len(list(place.iterdir())) == 2
    other = Registration()
    other.write(Entry(state_dir="/y", pid=2))
    assert len(list(place.iterdir())) == 4
    for path in place.glob("1-*.json"):
        os.utime(path, (0, 0))
    other.close()
    other.write(Entry(state_dir="/y", pid=2))
    assert len(list(place.iterdir())) == 2  # what is this old is nobody's
    other.close()


def test_the_ports_of_a_container_that_shares_the_state_directory_are_not_ours(project: Project) -> None:
    inside = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    project.configure(api=toy(data_dir="data"))
    project.serve(prefix=inside)
    project.reaches("api", "ready")
    (entry,) = until(lambda: entries(project), "the entry")
    assert entry.daemons == (Registered(name="api", host="127.0.0.1", data_dir=str(project.root / "data")),)
    assert entry.control is None
    project.stop()


CLOSER = "import os, sys; os.closerange(3, 256); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
"""Starts a program without the descriptors that it has inherited, as some wrappers do."""


def test_a_daemon_that_has_closed_its_lock_stays_registered_as_long_as_it_runs(project: Project) -> None:
    program, *arguments = toy()["command"]
    project.configure(api=toy() | {"command": [program, "-c", CLOSER, *arguments]})
    project.serve()
    api = project.reaches("api", "ready")
    until(lambda: daemons(project)["api"].ports, "the ports in the entry")
    project.kill_supervisor()
    assert daemons(project)["api"].ports == api.ports
    kill(api.pid)
    until(lambda: not entries(project), "no entry")
    project.run("reap")


def test_a_supervisor_that_tests_start_is_not_registered(project: Project) -> None:
    project.configure(api=toy())
    project.env["PYTEST_VERSION"] = "9"
    project.serve()
    project.reaches("api", "ready")
    assert not (project.root / "registry").exists()


def test_a_daemon_that_becomes_external_is_no_longer_registered(project: Project) -> None:
    project.configure(api=toy(), other=toy())
    project.serve()
    project.reaches("api", "ready")
    project.configure(api={"external": "http://127.0.0.1:9"}, other=toy())
    project.run("reload")
    until(lambda: daemons(project).keys() == {"other"}, "only the other one in the entry")


HANGING = """
import sys, time
from neo_daemons import registry
from neo_daemons.__main__ import main

registry.Registration.write = lambda self, entry: time.sleep(3600)
sys.exit(main())
"""


def test_supervision_goes_on_while_the_home_directory_hangs(project: Project) -> None:
    (project.root / "hanging.py").write_text(HANGING)
    project.configure(api=toy())
    with (project.root / "out").open("w") as output:
        serve = subprocess.Popen(
            [sys.executable, "hanging.py", "serve"], cwd=project.root, env=project.env, stdout=output, stderr=output
        )
    try:
        until(lambda: answers(project), "an answer of the supervisor")
        pid = project.reaches("api", "ready").pid
        time.sleep(PRESENCE_S)  # it tries to register again
        kill(pid)
        project.back("api", pid)
    finally:
        serve.terminate()
        assert serve.wait(PATIENCE_S) == 0, (project.root / "out").read_text()


def answers(project: Project) -> bool:
    try:
        return bool(project.client.status())
    except ControlError:
        return False


def test_an_entry_that_is_damaged_is_left_out_and_written_again(place: Path) -> None:
    registration, entry = Registration(), Entry(state_dir="/x", pid=1)
    registration.write(entry)
    (path,) = place.glob("*.json")
    path.unlink()
    path.write_text("{")
    assert registry.entries() == []
    assert not registration.is_whole()
    registration.write(entry)
    assert registry.entries() == [entry]
    registration.close()
    assert list(place.iterdir()) == []


def test_every_change_changes_the_stamp(place: Path) -> None:
    places = registry.directories()
    stamps = [registry.stamp(places)]
    registration = Registration()
    for pid in (1, 2):
        registration.write(Entry(state_dir="/x", pid=pid))
        stamps.append(registry.stamp(places))
    registration.close()
    stamps.append(registry.stamp(places))
    assert len(set(stamps)) == len(stamps)


def test_a_directory_that_others_can_write_to_is_not_believed(place: Path) -> None:
    registration = Registration()
    registration.write(Entry(state_dir="/x", pid=1))
    place.chmod(0o777)
    assert registry.entries() == []
    with pytest.raises(registry.RegistryError, match="only this user can write to"):
        Registration().write(Entry(state_dir="/y", pid=2))
    place.chmod(0o700)
    registration.close()


def test_the_directory_depends_on_no_variable_that_tests_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(registry.VARIABLE)
    before = registry.directories()
    for variable in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert registry.directories() == before
