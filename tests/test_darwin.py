"""What macOS does otherwise than Linux, each behind one function; with stand-ins for the calls. Never run there."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons import files, libproc, paths
from neo_daemons.control import peer
from neo_daemons.records import Identity, Unseen
from neo_daemons.supervision import platform as platforms
from neo_daemons.supervision.platform import PLATFORM_VARIABLE, current_platform, platform_choice
from neo_daemons.supervision.platform.darwin import DarwinPlatform, DarwinProcess, in_the_way, lack_of_libproc

from . import kqueue_shim
from .harness import Child
from .macos import libsystem

# The processes


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> libsystem.LibSystem:
    return libsystem.stand_in(monkeypatch)


@pytest.fixture
def platform(fake: libsystem.LibSystem, monkeypatch: pytest.MonkeyPatch) -> DarwinPlatform:
    kqueue_shim.install(lambda name, value: monkeypatch.setattr("select." + name, value, raising=False))
    return DarwinPlatform()


def opened(platform: DarwinPlatform, pid: int) -> DarwinProcess:
    identity = libproc.identify(pid)
    assert identity is not None
    process = platform.open(pid, identity)
    assert isinstance(process, DarwinProcess)
    return process


def test_a_signal_reaches_the_process_that_was_identified(
    platform: DarwinPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libsystem.LibSystem, "deliver", lambda _, pid, signum: sent.append((pid, signum)))
    sent: list[tuple[int, int]] = []
    with Child(["sleep", "600"]) as child:
        process = opened(platform, child.pid)
        assert process.signal(signal.SIGUSR1)
        assert sent == [(child.pid, signal.SIGUSR1)]
        process.identity = Identity(process.identity.boot_id, process.identity.start_time, inode=1)
        assert not process.signal(signal.SIGUSR1), "the number was passed on"
        assert len(sent) == 1
        child.terminate()
        child.wait()
        assert not process.signal(signal.SIGUSR1), "it has ended"
        process.close()


def test_a_signal_is_sent_again_to_what_has_just_called_exec(
    platform: DarwinPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Child(["sleep", "600"]) as child:
        process = opened(platform, child.pid)
        unique, version = libproc.unique(child.pid)
        versions = iter([version - 1, version])
        monkeypatch.setattr(libproc, "unique", lambda pid: (unique, next(versions)))
        assert process.signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
        process.close()


@pytest.mark.parametrize("error", [None, errno.EINVAL], ids=["no function", "no call"])
def test_an_older_system_is_signalled_by_number(
    platform: DarwinPlatform, fake: libsystem.LibSystem, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    refusing = None if error is None else lambda token, signum: error
    monkeypatch.setattr(fake, "proc_signal_with_audittoken", refusing, raising=False)
    with Child(["sleep", "600"]) as child:
        process = opened(platform, child.pid)
        assert process.signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
        process.close()


def test_a_signal_that_is_not_permitted_is_an_error(
    platform: DarwinPlatform, fake: libsystem.LibSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "proc_signal_with_audittoken", lambda token, signum: errno.EPERM, raising=False)
    with Child(["sleep", "600"]) as child:
        process = opened(platform, child.pid)
        with pytest.raises(PermissionError):
            process.signal(signal.SIGTERM)
        process.close()
        child.kill()


def test_the_holder_of_a_lock_is_found_and_so_is_that_of_a_deleted_one(
    platform: DarwinPlatform, tmp_path: Path
) -> None:
    lock = tmp_path / "a.lock"
    with lock.open("w") as locked, lock.open() as read:
        fcntl.flock(locked, fcntl.LOCK_EX)
        with (
            Child(["sleep", "600"], pass_fds=[locked.fileno()]) as heir,
            Child(["sleep", "600"], pass_fds=[read.fileno()]) as reader,
        ):
            assert [process.pid for process in platform.lock_holders(lock) or ()] == [heir.pid]
            assert not platform.keeps_deleted(heir.pid, [lock])
            assert platform.lock_holders(tmp_path / "none.lock") == []
            lock.unlink()
            assert [process.pid for process in platform.lock_holders(lock, deleted=True) or ()] == [heir.pid]
            assert platform.keeps_deleted(heir.pid, [tmp_path / "other", lock])
            assert platform.lock_holders(tmp_path / "other", deleted=True) is None, "that nobody is seen proves nothing"
            heir.kill()
            reader.kill()


def test_who_answers_at_a_port_is_found_among_our_own(platform: DarwinPlatform) -> None:
    script = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    with Child([sys.executable, "-IS", "-c", f"{script}; time.sleep(600)"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert platform.listens(child.pid, port, "127.0.0.1")
        assert not platform.listens(child.pid, port, "0.0.0.0"), "only a part of what is sent there"
        assert not platform.listens(os.getpid(), port, "127.0.0.1")
        holder = platform.port_holder(port, "127.0.0.1")
        assert holder is not None
        assert holder.pid == child.pid
        child.kill()


def test_what_has_no_libproc_says_so(fake: libsystem.LibSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lack_of_libproc() is None
    monkeypatch.setattr(libproc, "identify", lambda pid: None)
    assert lack_of_libproc() == "libproc does not show this process"

    def refused() -> str:
        raise Unseen("no boot id")

    monkeypatch.setattr(libproc, "boot_id", refused)
    monkeypatch.setattr(libproc, "identify", lambda pid: refused())
    assert lack_of_libproc() == "no boot id"


def test_macos_gets_its_own_platform_and_says_why_not(
    fake: libsystem.LibSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PLATFORM_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platform_choice() == ("darwin", None)
    assert isinstance(current_platform(), DarwinPlatform)
    monkeypatch.setattr(libproc, "identify", lambda pid: None)
    monkeypatch.delattr(select, "kqueue", raising=False)
    assert platform_choice() == ("posix", "libproc does not show this process")
    kqueue_shim.install(lambda name, value: monkeypatch.setattr("select." + name, value, raising=False))
    assert platform_choice() == ("kqueue", "libproc does not show this process")
    monkeypatch.undo()
    monkeypatch.setenv(PLATFORM_VARIABLE, "darwin")
    with pytest.raises(platforms.UnknownPlatform, match="NEO_DAEMONS_PLATFORM=darwin: this is linux"):
        platform_choice()


# Ports


@pytest.mark.parametrize(
    ("listens_at", "asked", "free"),
    [
        (None, "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("::", "127.0.0.1", False),
        ("127.0.0.1", "0.0.0.0", False),
        ("::1", "::", False),
        ("127.0.0.1", "::", False),
        ("::1", "127.0.0.1", True),
        ("192.0.2.1", "127.0.0.1", True),
    ],
)
def test_a_port_that_is_taken_at_another_address_is_not_free(
    platform: DarwinPlatform, monkeypatch: pytest.MonkeyPatch, listens_at: str | None, asked: str, free: bool
) -> None:
    """With SO_REUSEADDR only the same address is in use: lookups without wildcards in in_pcbbind of XNU."""

    def bind(host: str, port: int) -> socket.socket:
        if host == listens_at:
            raise OSError(errno.EADDRINUSE, "Address already in use", host)
        if host == "::1":
            raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address", host)
        return socket.socket()

    monkeypatch.setattr(platform, "_bind", bind)
    assert platform.port_is_free(asked, 1) is free


def test_what_is_in_the_way_of_an_address_is_known() -> None:
    assert in_the_way("127.0.0.1") == ["0.0.0.0", "::"]
    assert in_the_way("::1") == ["::"]
    assert in_the_way("0.0.0.0") == ["::", "::1", "127.0.0.1"]
    assert in_the_way("::") == ["::1", "127.0.0.1"]


# The user at the other end


def xucred(uid: int, version: int = 0) -> bytes:
    """struct xucred, sys/ucred.h of XNU: 76 bytes, the user at 4, the groups at 12."""
    data = bytearray(76)
    struct.pack_into("=IIh", data, 0, version, uid, 1)
    return bytes(data)


class Link:
    family = socket.AF_UNIX

    def __init__(self, answers: dict[tuple[int, int], Any]) -> None:
        self.answers = answers

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        found = self.answers[level, option]
        if isinstance(found, OSError):
            raise found
        assert size == (len(found) if isinstance(found, bytes) else 0)
        return found


@pytest.mark.parametrize(
    ("answer", "enters"),
    [(xucred(os.geteuid()), True), (xucred(0), True), (xucred(4711), False), (xucred(4711, version=1), True)],
    ids=["ours", "root", "another", "unknown layout"],
)
def test_the_user_of_a_connection_is_known(monkeypatch: pytest.MonkeyPatch, answer: bytes, enters: bool) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    link: Any = Link({(0, 1): answer, (0, 2): 4321})
    assert peer.may_enter(link) is enters
    if answer[:4] == bytes(4):
        assert peer.pid(link) == 4321
        link.answers[0, 2] = OSError(errno.ENOTCONN, "Socket is not connected")
        assert peer.pid(link) is None
        assert peer.may_enter(link) is enters, "the user is kept"


def test_a_system_that_is_neither_leaves_it_to_the_permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    assert peer.may_enter(Link({})) is True  # type: ignore[arg-type]
    assert peer.pid(Link({})) is None  # type: ignore[arg-type]


# Files


@pytest.fixture
def full_syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that F_FULLFSYNC is called for."""
    called: list[str] = []

    def call(descriptor: int, operation: int, argument: Any = 0) -> Any:
        assert operation == 51
        called.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(files, "F_FULLFSYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", call)
    return called


def test_what_must_survive_a_power_cut_is_written_to_the_drive(tmp_path: Path, full_syncs: list[str]) -> None:
    files.write_whole(tmp_path / "a.json", b"1", sync=True)
    assert len(full_syncs) == 2
    assert full_syncs[0].startswith(".a.json.")
    assert full_syncs[1] == tmp_path.name
    files.write_whole(tmp_path / "a.json", b"2")
    assert len(full_syncs) == 2, "nothing waits for the drive that need not"


def test_a_file_system_that_cannot_do_that_is_synced_as_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    synced: list[int] = []
    monkeypatch.setattr(files, "F_FULLFSYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", refused)
    monkeypatch.setattr(os, "fsync", synced.append)
    files.write_whole(tmp_path / "a.json", b"1", sync=True)
    assert len(synced) == 2


@pytest.fixture
def ignoring_case(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have fcntl return the paths of a file system that ignores case: that under which a file was made."""
    kept: dict[tuple[int, int], Path] = {}

    def make(path: Path) -> None:
        other = path.with_name(path.name.lower())
        other.symlink_to(path)  # stands in for the same directory under another name
        kept[path.stat().st_dev, path.stat().st_ino] = path

    def call(descriptor: int, operation: int, argument: Any = 0) -> Any:
        assert (operation, len(argument)) == (50, 1024)
        found = os.fstat(descriptor)
        path = kept.get((found.st_dev, found.st_ino)) or Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return os.fsencode(path).ljust(1024, b"\0")

    monkeypatch.setattr(paths, "F_GETPATH", 50)
    monkeypatch.setattr(fcntl, "fcntl", call)
    return make


def test_a_path_is_that_of_the_file_system_whatever_its_case(
    tmp_path: Path, ignoring_case: Callable[[Path], None]
) -> None:
    project = tmp_path / "Project"
    project.mkdir()
    ignoring_case(project)
    assert paths.canonical(tmp_path / "project") == project
    assert paths.canonical(tmp_path / "project" / "Not" / "there") == project / "Not" / "there"
    assert paths.canonical(project) == project
    assert paths.canonical(Path("/")) == Path("/")
    descriptor = os.open(tmp_path / "project", os.O_RDONLY)
    try:
        assert paths.path_of(descriptor) == str(project)
    finally:
        os.close(descriptor)


def test_where_the_system_does_not_tell_a_path_it_is_the_stated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(paths, "F_GETPATH", 50)
    monkeypatch.setattr(fcntl, "fcntl", refused)
    assert paths.canonical(tmp_path) == tmp_path
    assert paths.path_of(0) is None
