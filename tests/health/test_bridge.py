"""The bridge is judged by its process and its position in the log, and reading them writes nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons import processes
from neo_daemons.health import BridgeObserver, HttpObserver, bridge
from tests.harness import PATIENCE_S, Child, until

from .answers import Handler, Server, says
from .fake_bridge import Bridge


def test_the_bridge_is_judged_by_its_position(wake: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    wake.log(5)
    seen = wake.observer.check()
    assert (seen.status, seen.pid, seen.details.own_pid) == ("healthy", wake.process.pid, wake.process.pid)
    assert (seen.details.position, seen.details.log_end, seen.details.behind) == (None, 5, 0), "it begins at the end"
    wake.log(9)
    wake.say("lastSyncId", 5)
    seen = wake.observer.check()
    assert (seen.status, seen.details.position, seen.details.behind) == ("healthy", 5, 4), "behind, and not for long"
    monkeypatch.setattr(bridge, "STUCK_S", 0.05)
    seen = until(lambda: seen if (seen := wake.observer.check()).status != "healthy" else None, "it to be stuck")
    assert (seen.status, seen.ready) == ("unhealthy", False)
    assert "it is running but not working: at position 5, behind 9" in seen.reasons[0]
    wake.say("lastSyncId", 9)
    seen = wake.observer.check()
    assert (seen.status, seen.details.behind, seen.details.stuck_for_s) == ("healthy", 0, None)
    # One that only now begins to look knows as well: nothing has been written for so long.
    wake.log(11)
    until(lambda: time.time() - wake.database.with_name("graph.sqlite-wal").stat().st_mtime > 0.1, "some time")
    assert BridgeObserver(wake.directory, wake.database).check().status == "unhealthy"


def test_a_bridge_that_does_not_run_is_told_by_its_own_pid_file(wake: Bridge) -> None:
    def reason() -> str:
        seen = wake.observer.check()
        assert (seen.status, seen.pid) == ("unhealthy", None), seen
        return seen.reasons[0]

    wake.say("wake-daemon.pid", "not a number")
    assert "exits at every start" in reason()
    wake.say("wake-daemon.pid", "1")
    assert "contains no pid" in reason()
    wake.say("wake-daemon.pid", os.getpid())
    assert f"pid {os.getpid()}, named by" in reason()
    assert "is another process now" in reason()
    # The pid has passed on to one that is called the same, and that was started after the file was written.
    wake.say("wake-daemon.pid", wake.process.pid)
    os.utime(wake.directory / "wake-daemon.pid", (1, 1))
    assert "is another process now" in reason()
    (wake.directory / "wake-daemon.pid").unlink()
    assert "contains none of wake-daemon.pid" in reason()
    wake.say("bridge-daemon.pid", wake.process.pid)
    assert wake.observer.check().status == "healthy"
    wake.process.kill()
    wake.process.wait()
    assert f"pid {wake.process.pid}, named by" in reason()
    assert "is gone" in reason()


def test_a_bridge_that_is_stopped_or_blind_is_told(wake: Bridge) -> None:
    wake.process.send_signal(signal.SIGSTOP)
    until(lambda: processes.is_stopped(wake.process.pid), "it to stop")
    assert "is stopped by a signal" in wake.observer.check().reasons[0]
    wake.process.send_signal(signal.SIGCONT)
    wake.say("lastSyncId", "garbage")
    assert "'garbage'" in wake.observer.check().reasons[0]
    (wake.directory / "lastSyncId").unlink()
    wake.close_graph()
    wake.database.write_bytes(b"no database at all, but long enough to be mistaken for one" * 20)
    assert wake.observer.check().status == "unknown", "no process has it open"
    wake.database.with_name("graph.sqlite-shm").write_bytes(bytes(32768))
    seen = wake.observer.check()
    assert seen.status == "unhealthy"
    assert "not a database" in seen.reasons[0]
    wake.database.unlink()
    seen = wake.observer.check()
    assert seen.status == "unhealthy"
    assert "graph.sqlite" in seen.reasons[0]


def test_reading_the_log_writes_nothing_whatever_state_it_is_in(wake: Bridge) -> None:
    """``mode=ro`` makes the files of the write-ahead log; an observer must not."""
    wake.log(3)

    def unchanged(expected: Any) -> None:
        before = wake.files()
        for _ in range(3):
            assert wake.observer.check().details.log_end == expected
        assert wake.files() == before

    unchanged(3)

    def crash(entry: int) -> None:
        program = f"import os, sqlite3; c = sqlite3.connect({str(wake.database)!r}); "
        program += f"c.execute('INSERT INTO GraphLog VALUES ({entry})'); c.commit(); os._exit(0)"
        subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE_S)

    crash(8)
    unchanged(8)
    wake.close_graph()  # the log is written back, and its files are gone
    assert set(wake.files()) == {"graph.sqlite"}
    unchanged(None)
    assert wake.observer.check().status == "unknown", "cannot be told without writing"
    crash(9)
    wake.database.with_name("graph.sqlite-shm").unlink()
    unchanged(None)


def test_reading_the_log_leaves_the_locks_of_this_process_on_it_alone(wake: Bridge) -> None:
    """Closing any descriptor of a file drops all POSIX locks that a process has on it: SQLite's too."""
    taking = f"""
import sqlite3, sys
try:
    sqlite3.connect({str(wake.database)!r}, timeout=0).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    sys.exit(3 if "locked" in str(error) else str(error))
"""
    with contextlib.closing(sqlite3.connect(wake.database)) as graph:
        graph.execute("BEGIN IMMEDIATE")
        graph.execute("INSERT INTO GraphLog VALUES (77)")
        for _ in range(2):
            wake.observer.check()
            taken = subprocess.run([sys.executable, "-c", taking], timeout=PATIENCE_S, check=False)
            assert taken.returncode == 3, "somebody else has got a lock that is ours"
        graph.commit()
    assert wake.observer.check().details.log_end == 77


def test_a_bridge_whose_database_was_replaced_under_it_is_not_healthy(wake: Bridge) -> None:
    holding = f"f = open({str(wake.database)!r}); import signal; signal.pause()"
    script = wake.directory.parent / "ai/daemons/wake/daemon.mjs"
    script.write_text(holding)
    with Child([sys.executable, "-IS", str(script)]) as process:
        try:
            until(lambda: processes.has_open(process.pid, wake.database), "it to have the database open")
            wake.say("wake-daemon.pid", process.pid)
            assert wake.observer.check().status == "healthy"
            kept = wake.database.read_bytes()
            wake.database.unlink()
            wake.database.write_bytes(kept)
            seen = wake.observer.check()
            assert seen.status == "unhealthy"
            assert "its database was deleted while it runs" in seen.reasons[0]
        finally:
            process.kill()


def test_a_slow_database_holds_up_neither_its_own_caller_nor_others(
    wake: Bridge, serve: Callable[[Handler], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    go, readers = threading.Event(), []

    def slow(database: Path, deadline: float) -> int:
        readers.append(database)
        go.wait(PATIENCE_S)
        return 1

    monkeypatch.setattr(bridge, "read_end", slow)
    observer = BridgeObserver(wake.directory, wake.database, timeout_s=0.1)
    try:
        for _ in range(3):
            assert observer.check().status == "unknown"
            assert HttpObserver(serve(says(200)).url, name="api").check().status == "healthy"
        assert len(readers) == 1, "one reader, however often it is asked"
    finally:
        go.set()


def test_a_bridge_whose_files_cannot_be_seen_is_unknown(wake: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: Path, *_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    wake.log(5)
    for place, file in (("pathlib.Path.lstat", "wake-daemon.pid"), ("neo_daemons.health.bridge.read_end", "graph")):
        with monkeypatch.context() as patched:
            patched.setattr(place, hidden)
            seen = wake.observer.check()
        assert seen.status == "unknown", seen
        assert file in seen.reasons[0]
        assert seen.reasons[0].endswith(": Permission denied"), "no number of an error, and no quotes"


def test_what_stands_in_place_of_the_bridge_s_files_is_said_plainly(wake: Bridge) -> None:
    wake.log(5)
    position = wake.directory / "lastSyncId"
    position.mkdir()
    seen = wake.observer.check()
    assert (seen.status, seen.reasons) == (
        "unhealthy",
        (f"its progress cannot be read: {position}: not a regular file",),
    )
    position.rmdir()
    wake.close_graph()
    wake.database.unlink()
    for make in (os.mkdir, os.mkfifo):
        make(wake.database)
        seen = wake.observer.check()
        assert (seen.status, seen.reasons) == (
            "unhealthy",
            (f"its progress cannot be read: {wake.database}: not a regular file",),
        )
        wake.database.rmdir() if wake.database.is_dir() else wake.database.unlink()
    seen = wake.observer.check()
    assert seen.reasons == (f"its progress cannot be read: {wake.database}: No such file or directory",)


def test_a_database_that_is_locked_is_unknown(wake: Bridge) -> None:
    wake.log(5)
    wake.log("PRAGMA locking_mode=EXCLUSIVE")
    wake.log(6)
    seen = wake.observer.check()
    assert (seen.status, seen.reasons) == ("unknown", (f"{wake.database} cannot be read now: database is locked",))
