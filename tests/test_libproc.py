"""What macOS tells of processes: the layouts of its structures, and their reading, on a libSystem that answers from the
processes of Linux. Never run on macOS."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neo_daemons import libproc, procfs
from neo_daemons.libproc import layouts
from neo_daemons.records import Unseen

from .harness import PATIENCE_S, Child, until
from .macos import libsystem

BOOT_ID = libproc.boot_id
# sizeof and offsetof, as a C compiler finds them in bsd/sys/proc_info.h and proc_info_private.h of xnu-11417.101.15.
SIZES = {
    layouts.BsdInfo: 136,
    layouts.ShortBsdInfo: 64,
    layouts.UniqueIdentifierInfo: 56,
    layouts.DescriptorInfo: 8,
    layouts.FileInfo: 24,
    layouts.VnodeStat: 136,
    layouts.VnodeDescriptor: 176,
    layouts.VnodePathDescriptor: 1200,
    layouts.InternetSocket: 80,
    layouts.TcpSocket: 120,
    layouts.SocketBuffer: 24,
    layouts.SocketDescriptor: 792,
}
OFFSETS = {
    layouts.BsdInfo: {
        "pbi_status": 4,
        "pbi_ruid": 28,
        "pbi_pgid": 100,
        "pbi_start_tvsec": 120,
        "pbi_start_tvusec": 128,
    },
    layouts.ShortBsdInfo: {"pbsi_ppid": 4, "pbsi_status": 12, "pbsi_comm": 16, "pbsi_uid": 36, "pbsi_ruid": 44},
    layouts.UniqueIdentifierInfo: {"p_uniqueid": 16, "p_idversion": 32},
    layouts.DescriptorInfo: {"proc_fdtype": 4},
    layouts.FileInfo: {"fi_offset": 8},
    layouts.VnodeStat: {"vst_nlink": 6, "vst_ino": 8, "vst_size": 88},
    layouts.VnodeDescriptor: {"vi_stat": 24},
    layouts.VnodePathDescriptor: {"vi_stat": 24, "vip_path": 176},
    layouts.InternetSocket: {"insi_lport": 4, "insi_vflag": 24, "insi_faddr": 32, "insi_laddr": 48},
    layouts.TcpSocket: {"tcpsi_state": 80},
    # struct socket_info begins at 24.
    layouts.SocketDescriptor: {"soi_so": 160, "soi_family": 184, "soi_kind": 256, "soi_proto": 264},
}


@pytest.fixture(autouse=True)
def _libsystem(monkeypatch: pytest.MonkeyPatch) -> None:
    libsystem.stand_in(monkeypatch)


@pytest.mark.parametrize(("structure", "size"), SIZES.items(), ids=lambda one: getattr(one, "__name__", str(one)))
def test_structures_have_the_sizes_of_the_headers(structure: type[ctypes.Structure], size: int) -> None:
    assert ctypes.sizeof(structure) == size


def test_fields_have_the_offsets_of_the_headers() -> None:
    found = {kind: {name: getattr(kind, name).offset for name in wanted} for kind, wanted in OFFSETS.items()}
    assert found == OFFSETS


def test_a_process_is_told_from_another() -> None:
    with Child(["sleep", "600"]) as process, Child(["sleep", "600"]) as other:
        identity, another = libproc.identify(process.pid), libproc.identify(other.pid)
        assert identity is not None
        assert another is not None
        assert identity.matches(identity)
        assert not identity.matches(another)
        assert identity.inode == libproc.unique(process.pid)[0]
        started = libproc.started_at(process.pid)
        assert started is not None
        assert abs(started - time.time()) < PATIENCE_S
        assert libproc.command(process.pid) == ("sleep", "600")
        assert libproc.user(process.pid) == os.getuid()
        assert {process.pid, other.pid, os.getpid()} <= set(libproc.pids())
        other.kill()
        process.kill()
        until(lambda: libproc.identify(process.pid) is None, "a zombie to count as gone")
    assert libproc.identify(process.pid) is None
    assert libproc.started_at(process.pid) is None
    assert libproc.command(process.pid) == ()
    assert libproc.environment_holds(process.pid, "x") is None
    assert not libproc.is_stopped(process.pid)


def test_the_boot_is_that_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = getattr(BOOT_ID, "__wrapped__")  # noqa: B009 - behind its cache
    assert ask() == libsystem.BOOT
    monkeypatch.setattr(libsystem.LibSystem, "sysctlbyname", lambda *_: -1)
    with pytest.raises(Unseen, match="does not report its boot id"):
        ask()


def test_a_stopped_process_is_seen() -> None:
    with Child(["sleep", "600"]) as process:
        assert not libproc.is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        until(lambda: libproc.is_stopped(process.pid), "it to stop")
        process.kill()


def test_an_environment_is_read_and_that_of_a_program_of_the_system_is_unknown() -> None:
    env = {**os.environ, "TOLD": "to each"}
    with (
        Child([sys.executable, "-c", "import time; time.sleep(600)", "", "two words"], env=env) as ours,
        Child(["/bin/sleep", "600"], env=env) as theirs,
    ):
        until(lambda: libproc.command(ours.pid)[-1:] == ("two words",), "the interpreter to be in place")
        until(lambda: libproc.command(theirs.pid)[1:] == ("600",), "the other program to be in place")
        assert libproc.command(ours.pid)[-2:] == ("", "two words")
        assert libproc.environment_holds(ours.pid, "TOLD=to each") is True
        assert libproc.environment_holds(ours.pid, "TOLD=to none") is False
        assert libproc.environment_holds(theirs.pid, "TOLD=to each") is None
        with pytest.raises(PermissionError, match="withheld"):
            libproc.environ(theirs.pid)
        ours.kill()
        theirs.kill()


def test_an_empty_environment_is_not_one_that_is_withheld() -> None:
    with Child([sys.executable, "-IS", "-c", "import time; time.sleep(600)"], env={}) as process:
        until(lambda: len(libproc.command(process.pid)) == 4, "the interpreter to be in place")
        assert libproc.environment_holds(process.pid, "TOLD") is False
        process.kill()


def test_who_holds_a_lock_is_told_from_who_has_the_file_open(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with lock.open("w") as locked, lock.open() as opened:
        fcntl.flock(locked, fcntl.LOCK_EX)
        sleep = ["sleep", "600"]
        with Child(sleep, pass_fds=[locked.fileno()]) as heir, Child(sleep, pass_fds=[opened.fileno()]) as reader:
            wanted = lock.stat()
            assert libproc.has_open(heir.pid, lock)
            assert libproc.has_open(reader.pid, lock)
            assert libproc.has_locked(heir.pid, wanted)
            assert not libproc.has_locked(reader.pid, wanted)
            assert libproc.has_open(heir.pid, tmp_path / "x" / ".." / "a.lock") is False, "there is no x"
            lock.unlink()
            assert not libproc.has_open(heir.pid, lock)
            assert libproc.deleted_file(heir.pid, "a.lock") == str(lock)
            assert libproc.deleted_file(heir.pid, "lock") is None
            heir.kill()
            reader.kill()


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")],
)
def test_who_listens_is_found(bound: str, asked: str) -> None:
    with socket.create_server((bound, 0), family=socket.AF_INET6 if ":" in bound else socket.AF_INET) as listener:
        number = listener.getsockname()[1]
        found = libproc.listener(asked, number)
        assert found == (f"{os.fstat(listener.fileno()).st_ino:x}", os.getpid())
        assert libproc.holds_socket(os.getpid(), found[0])
        assert libproc.listens(os.getpid(), asked, number) is (bound == asked)
        assert libproc.listener("127.0.0.2", number) == (found if bound in ("0.0.0.0", "::") else None)
    assert libproc.listener(asked, number) is None


def test_each_kind_of_address_has_its_own_listener() -> None:
    with socket.create_server(("0.0.0.0", 0)) as four:
        port = four.getsockname()[1]
        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False) as six:
            found = {one: (f"{os.fstat(one.fileno()).st_ino:x}", os.getpid()) for one in (four, six)}
            assert libproc.listener("127.0.0.1", port) == found[four]
            assert libproc.listener("::1", port) == found[six]


def test_a_process_of_another_user_shows_that_it_lives_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with Child(["sleep", "600"], stdout=subprocess.DEVNULL) as process:
        until(lambda: libproc.command(process.pid) == ("sleep", "600"), "it to be in place")
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        identity = libproc.identify(process.pid)
        assert identity is not None
        assert identity.start_time == 0.0
        assert identity.inode == libproc.unique(process.pid)[0]
        with pytest.raises(Unseen, match="Operation not permitted"):
            libproc.started_at(process.pid)
        assert libproc.command(process.pid) == ()
        assert libproc.environment_holds(process.pid, "PATH") is None
        assert libproc.deleted_file(process.pid, "x") is None
        assert list(libproc.listeners(process.pid)) == []
        process.kill()


def test_both_sides_answer_the_same_of_the_same_process() -> None:
    """What observers ask of one is what they ask of the other."""
    with Child([sys.executable, "-IS", "-c", "import time; time.sleep(600)"]) as process:
        until(lambda: len(libproc.command(process.pid)) == 4, "the interpreter to be in place")
        assert libproc.command(process.pid) == procfs.command(process.pid)
        assert libproc.user(process.pid) == procfs.user(process.pid)
        assert set(procfs.environ(process.pid).split(b"\0")) <= set(libproc.environ(process.pid).split(b"\0"))
        ours, theirs = libproc.started_at(process.pid), procfs.started_at(process.pid)
        assert ours is not None
        assert theirs is not None
        assert abs(ours - theirs) < 2.0
        process.kill()
