"""Which implementation of the platform a machine gets, and a supervisor where the kernel refuses pidfds."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from typing import NoReturn

import msgspec
import psutil
import pytest

from neo_daemons import processes, records
from neo_daemons.records import DaemonRecord
from neo_daemons.state_dir import StateDirError
from neo_daemons.supervision.ownership import Ownership
from neo_daemons.supervision.platform import PLATFORM_VARIABLE, Unverifiable, current_platform, platform_choice
from neo_daemons.supervision.platform.linux import LinuxPlatform
from neo_daemons.supervision.platform.posix import PosixPlatform

from . import kqueue_shim
from .harness import FAST, PROGRAMS, Child, Project, kill, toy

SHIMMED = (sys.executable, str(PROGRAMS / "with_kqueue.py"))
SEND_SIGNAL, OPEN = 424, 434
"""pidfd_send_signal and pidfd_open, include/uapi/asm-generic/unistd.h; the same on all machines but Alpha."""


def test_this_machine_has_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLATFORM_VARIABLE, raising=False)
    assert platform_choice() == ("linux", None)


@pytest.mark.long
@pytest.mark.parametrize(
    ("calls", "refused"),
    [(str(OPEN), "pidfd_open"), (str(SEND_SIGNAL), "pidfd_send_signal"), (f"{OPEN},{SEND_SIGNAL}", "pidfd_open")],
    ids=["open", "send a signal", "both"],
)
def test_a_container_that_refuses_pidfds_is_supervised(project: Project, calls: str, refused: str) -> None:
    """Only one call was tried: with the other refused, no daemon could be signalled, and `down` never ended."""
    project.env.pop(PLATFORM_VARIABLE, None)
    deny = (sys.executable, str(PROGRAMS / "seccomp_deny.py"), str(errno.EPERM), calls)
    project.configure(api=toy(), base={"command": ["sleep", "600"]})
    project.serve(prefix=deny)
    first = project.reaches("api", "ready")
    assert project.client.status().supervisor.platform == "linux-without-pidfds"
    os.kill(first.pid or 0, signal.SIGKILL)
    again = project.back("api", first.pid)
    assert "killed by SIGKILL" in str(project.events("api"))
    project.kill_supervisor()
    project.serve(prefix=deny)
    assert project.reaches("api", "ready").pid == again.pid, "adopted"
    said = project.run("doctor", prefix=deny).stdout
    assert f"linux-without-pidfds ({refused}: Operation not permitted)" in said
    assert "orphan" not in said
    assert project.run("down", prefix=deny).returncode == 0


def test_the_choice_can_be_forced_and_an_unknown_one_is_one_line(project: Project) -> None:
    project.env[PLATFORM_VARIABLE] = "posix"
    project.configure(api=toy())
    project.serve()
    supervisor = project.client.status().supervisor
    assert (supervisor.platform, supervisor.platform_reason) == ("posix", "NEO_DAEMONS_PLATFORM says so")
    assert "posix (NEO_DAEMONS_PLATFORM says so)" in project.run("doctor").stdout
    project.env[PLATFORM_VARIABLE] = "vms"
    for command in ("serve", "doctor", "reap"):
        said = project.run(command)
        assert said.returncode == 1
        assert said.stderr == (
            "neo-daemons: NEO_DAEMONS_PLATFORM=vms: unknown; unset it, or use linux, linux-without-pidfds, posix\n"
        )
    project.env[PLATFORM_VARIABLE] = ""


def test_kqueue_cannot_be_forced_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLATFORM_VARIABLE, "kqueue")
    monkeypatch.delattr(select, "kqueue", raising=False)
    with pytest.raises(StateDirError, match=r"=kqueue: this system has no kqueue\(2\); unset it, or use linux, "):
        current_platform()


def test_elsewhere_the_best_is_chosen_that_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLATFORM_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "freebsd14")
    monkeypatch.delattr(select, "kqueue", raising=False)
    assert platform_choice() == ("posix", "freebsd14 has no implementation of its own")
    kqueue_shim.install(lambda name, value: monkeypatch.setattr(select, name, value, raising=False))
    assert platform_choice() == ("kqueue", "freebsd14 has no implementation of its own")
    assert current_platform().name == "kqueue"


def test_a_supervisor_by_kqueue_knows_how_its_daemons_exited(project: Project) -> None:
    """Of its own children, and of those that it has adopted."""
    project.env[PLATFORM_VARIABLE] = "kqueue"
    project.configure(api=toy("quiet", restart=FAST))
    project.serve(prefix=SHIMMED)
    first = project.reaches("api", "ready")
    kill(first.pid)
    second = project.back("api", first.pid)
    assert second.last_exit is not None
    assert second.last_exit.signal == "SIGKILL"
    project.kill_supervisor()
    project.serve(prefix=SHIMMED)
    assert project.reaches("api", "ready").pid == second.pid, "adopted"
    kill(second.pid, signal.SIGUSR1)
    third = project.back("api", second.pid)
    assert third.last_exit is not None
    assert third.last_exit.signal == "SIGUSR1"
    assert project.client.status().supervisor.platform == "kqueue"
    said = project.run("doctor", prefix=SHIMMED).stdout
    assert "kqueue (NEO_DAEMONS_PLATFORM says so): the kernel reports each exit" in said


def test_a_pidfd_of_our_own_is_closed_after_the_look() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert LinuxPlatform.lack_of_pidfds() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_root_s_view_the_holder_of_a_port_is_found_among_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: the table of all connections is for root, and each process shows its own to its user."""

    def refused(kind: str) -> NoReturn:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refused)
    script = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    with Child([sys.executable, "-IS", "-c", f"{script}; time.sleep(600)"], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            holder = PosixPlatform().port_holder(port, "127.0.0.1")
            assert holder is not None
            assert holder.pid == child.pid
        finally:
            child.kill()
    assert PosixPlatform().port_holder(port, "127.0.0.1") is None


def test_a_process_whose_lock_is_hidden_is_neither_ours_nor_a_stranger(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no mark, and somebody holds the daemon's lock: where the system does not tell who, nothing is known."""
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    platform = current_platform()
    record = records.read(project.state.daemon_record("api"), DaemonRecord)
    assert record is not None
    with Child(["sleep", "600"]) as unmarked:
        try:
            forged = msgspec.structs.replace(record, pid=unmarked.pid, identity=processes.identify(unmarked.pid))
            ownership = Ownership(platform, project.state)
            process, stranger = ownership.find_living(forged)
            assert process is None
            assert "does not carry the daemon's mark" in str(stranger)
            monkeypatch.setattr(platform, "lock_holders", lambda lock, *, deleted=False: None)
            with pytest.raises(Unverifiable, match="this system does not tell who holds"):
                ownership.find_living(forged)
            own, _ = ownership.find_living(record)
            assert own is not None, "its mark proves it"
            own.close()
            project.stop()
            assert ownership.find_living(forged)[0] is None, "nobody holds the lock"
        finally:
            unmarked.kill()
