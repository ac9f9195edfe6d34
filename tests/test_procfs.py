"""What Linux tells of processes and listeners in ``/proc``."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from neo_daemons import procfs
from tests.harness import PATIENCE_S, Child, until


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")],
)
def test_who_listens_is_found(bound: str, asked: str) -> None:
    with socket.create_server((bound, 0), family=socket.AF_INET6 if ":" in bound else socket.AF_INET) as listener:
        inode = procfs.listening_socket(asked, listener.getsockname()[1])
        assert inode == str(os.fstat(listener.fileno()).st_ino)
        assert procfs.holders(inode) == [os.getpid()]
        number = listener.getsockname()[1]
    assert procfs.listening_socket(asked, number) is None


def test_each_kind_of_address_has_its_own_listener() -> None:
    with socket.create_server(("0.0.0.0", 0)) as four:
        port = four.getsockname()[1]
        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False) as six:
            inodes = {one: str(os.fstat(one.fileno()).st_ino) for one in (four, six)}
            assert procfs.listening_socket("127.0.0.1", port) == inodes[four]
            assert procfs.listening_socket("::1", port) == inodes[six]


def test_a_process_is_told_from_another(tmp_path: Path) -> None:
    with Child(["sleep", "600"]) as process:
        identity = procfs.identify(process.pid)
        assert identity is not None
        assert identity.matches(identity)
        started = procfs.started_at(process.pid)
        assert started is not None
        assert abs(started - time.time()) < PATIENCE_S
        process.kill()
        until(lambda: procfs.identify(process.pid) is None, "a zombie to count as gone")
    assert procfs.identify(process.pid) is None
    assert procfs.environment_holds(process.pid, "x") is None
    assert procfs.command(process.pid) == ()
    assert list(procfs.open_files(process.pid)) == []
