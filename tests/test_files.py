"""Logs, journal, records and files: bounded, whole, and readable after any crash."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neo_daemons import files
from neo_daemons.definitions import Log
from neo_daemons.files import exchange, write_whole
from neo_daemons.records import DaemonRecord, DamagedRecord, read
from neo_daemons.status import EventName
from neo_daemons.supervision.journal import Journal
from neo_daemons.supervision.journal import read as read_journal
from neo_daemons.supervision.logs import DaemonLog

from .harness import Child

WRITER = """
import os, sys
for number in range(int(sys.argv[1])):
    os.write(1, b"line %09d of a flood\\n" % number)
"""
LINES = 200_000


def everything(log: DaemonLog) -> bytes:
    """What rotation kept, oldest first."""
    numbered = sorted(log.path.parent.glob(f"{log.path.name}.[0-9]*"), key=lambda path: -int(path.suffix[1:]))
    return b"".join(path.read_bytes() for path in [*numbered, log.path])


def test_rotation_under_a_writer_loses_no_line_where_the_file_system_can(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=200_000, keep=100))
    if not log.is_lossless():
        pytest.fail("this file system cannot rotate without loss: run the tests with --basetemp on ext4 or xfs")
    output = log.open()
    rotations = 0
    with Child([sys.executable, "-IS", "-c", WRITER, str(LINES)], stdout=output) as writer:
        os.close(output)
        while writer.poll() is None:
            rotations += log.rotate()
    assert rotations > 5
    assert log.method == "lossless"
    assert everything(log).splitlines() == [b"line %09d of a flood" % number for number in range(LINES)]


def test_rotation_keeps_the_bounds_and_the_latest(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=100_000, keep=2))
    for number in range(50):
        with log.path.open("ab") as file:
            file.write(b"%08d\n" % number * 4000)
        log.rotate()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["api.log", "api.log.1", "api.log.2"]
    assert all(path.stat().st_size <= 140_000 for path in tmp_path.iterdir())
    assert log.tail(1) == ["00000049"]


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_flood_that_outran_the_rotation_is_kept_within_the_bounds(tmp_path: Path, keep: int) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192, keep=keep))
    log.path.write_bytes(b"%07d\n" * 20_000 % tuple(range(20_000)))
    assert log.rotate()
    kept = everything(log).splitlines()
    assert kept[-1] == b"0019999"
    assert all(path.stat().st_size < 2 * 8192 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == keep + 1
    assert [int(line) for line in kept[1:]] == list(range(20_001 - len(kept), 20_000))


def test_where_the_front_cannot_be_cut_off_the_file_is_copied_and_truncated(tmp_path: Path) -> None:
    log = DaemonLog(Path("/dev/shm") / f"neo-daemons-test-{os.getpid()}.log", Log(max_bytes=4096, keep=1))
    try:
        log.path.write_bytes(b"x" * 5000)
        assert log.rotate()
        assert (log.method, log.size) == ("copy-truncate", 0)
        assert everything(log) == b"x" * 5000
    finally:
        for path in log.path.parent.glob(f"{log.path.name}*"):
            path.unlink()


def test_a_position_outlives_a_rotation(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192, keep=1))
    log.path.write_bytes(b"old\n" * 5000)
    position = log.end
    log.rotate()
    with log.path.open("ab") as file:
        file.write(b"new\n")
    assert log.read(position) == (b"new\n", position + 4)
    assert log.tail(5, since=position) == ["new"]


def test_a_log_is_followed_across_a_rotation(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192, keep=1))
    log.path.write_bytes(b"old\n" * 5000)

    async def follow() -> list[str]:
        pieces = log.follow(1, poll_s=0.01)
        seen = [await anext(pieces)]
        log.rotate()
        with log.path.open("ab") as file:
            file.write(b"new\n")
        seen.append(await anext(pieces))
        await pieces.aclose()  # type: ignore[attr-defined]
        return seen

    assert asyncio.run(follow()) == ["old\n", "new\n"]


def test_a_tail_goes_on_into_what_was_just_rotated_away(tmp_path: Path) -> None:
    """Right after a rotation, a handful of lines was all there was."""
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192, keep=2))
    lines = [f"{number:06}" for number in range(1500)]
    log.path.write_text("".join(f"{line}\n" for line in lines))
    assert log.rotate()
    assert log.size < 7 * 500
    assert log.tail(1000) == lines[-1000:]
    assert log.tail(1000, since=7 * 900) == lines[900:]
    assert log.tail(1000, since=log.end) == []
    assert DaemonLog(log.path, log.limits).tail(1000) == lines[-1000:]  # of one who has not seen the rotation
    assert len(DaemonLog(log.path, Log(keep=0)).tail(1000)) < 500  # what is there may be from long ago


def test_a_followed_log_is_decoded_as_a_whole(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log())
    log.path.write_text("old\n")
    text = "x" + "äöü€𝄞" * 30_000

    async def follow() -> str:
        pieces = log.follow(1, poll_s=0.01)
        assert await anext(pieces) == "old\n"
        seen = ""
        with log.path.open("ab") as file:
            file.write(text.encode()[:-1])
        async for piece in pieces:
            seen += piece
            if len(seen) == len(text) - 1:
                break
        with log.path.open("ab") as file:
            file.write(text.encode()[-1:])
        seen += await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        return seen

    assert asyncio.run(follow()) == text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"x" * 5_000_000, b"\n" * 100_000, b"no end"])
def test_any_log_can_be_read(tmp_path: Path, content: bytes) -> None:
    log = DaemonLog(tmp_path / "api.log", Log())
    log.path.write_bytes(content)
    assert len(log.tail(10)) <= 10
    assert all(len(line) <= 8192 for line in log.tail(10))


def test_a_log_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    (tmp_path / "api.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        DaemonLog(tmp_path / "api.log", Log()).open()
    assert target.read_text() == "mine"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(junk=st.binary(max_size=200), cut=st.integers(0, 25))
def test_a_journal_survives_any_damage_and_goes_on(tmp_path: Path, junk: bytes, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    path.unlink(missing_ok=True)
    first = Journal(path)
    first.add(EventName.RUNNING, daemon="api")
    first.add(EventName.HOLD)
    first.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - cut] + junk)
    second = Journal(path)
    second.add(EventName.READY, detail="after the damage")
    second.close()
    entries, _ = read_journal(path)
    assert entries[-1].event == "ready"
    assert "running" in [entry.event for entry in entries]


def test_a_journal_that_cannot_be_written_says_so_and_remembers(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.symlink_to("/dev/full")
    journal = Journal(tmp_path / "missing" / "journal.jsonl")
    journal.add(EventName.READY)
    assert journal.fault is not None
    assert "cannot write" in journal.fault
    assert [entry.event for entry in journal.latest(10)] == ["ready"]


def test_journal_followers_see_everything_in_order(tmp_path: Path) -> None:
    async def follow() -> list[str | None]:
        journal = Journal(tmp_path / "journal.jsonl")
        journal.add(EventName.STARTING, daemon="api", detail="before")
        journal.add(EventName.STARTING, daemon="b", detail="other")
        entries = journal.follow(5, "api")
        seen = [(await anext(entries)).detail]
        for number in range(100):
            journal.add(EventName.READY, daemon="api" if number % 2 else "b", detail=str(number))
        seen += [(await anext(entries)).detail for _ in range(50)]
        await entries.aclose()  # type: ignore[attr-defined]
        journal.close()
        return seen

    assert asyncio.run(follow()) == ["before", *(str(number) for number in range(1, 100, 2))]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_are_a_record_or_damaged(data: bytes) -> None:
    path = Path(f"/dev/shm/neo-daemons-record-{os.getpid()}.json")
    path.write_bytes(data)
    try:
        with pytest.raises(DamagedRecord, match="neo-daemons-record"):
            read(path, DaemonRecord)
    finally:
        path.unlink()


@pytest.mark.parametrize("pid", [0, 1, -1, 2**40, "1", 1.5, True])
def test_a_record_names_no_pid_that_means_something_else_to_kill(tmp_path: Path, pid: object) -> None:
    import json

    record: dict[str, object] = {
        "name": "api",
        "token": "t",
        "fingerprint": "f",
        "command": ["x"],
        "ports": {},
        "url": None,
        "data_dir": None,
        "log_path": "",
        "spawned_at": 0,
        "log_offset": 0,
    }
    path = tmp_path / "api.json"
    path.write_text(json.dumps({**record, "pid": 2}))
    assert read(path, DaemonRecord) is not None
    path.write_text(json.dumps({**record, "pid": pid}))
    with pytest.raises(DamagedRecord):
        read(path, DaemonRecord)


def test_two_files_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    assert not exchange(one, other), "one is missing"
    assert one.read_text() == "1"
    other.write_text("2")
    assert exchange(one, other)
    assert (one.read_text(), other.read_text()) == ("2", "1")


@pytest.mark.parametrize("can", [True, False])
def test_a_file_is_replaced_whether_or_not_two_can_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    if not can:
        monkeypatch.setattr(files, "exchange", lambda one, other: False)
    for text in (b"first", b"second", b"third"):
        write_whole(tmp_path / "file", text, lazy=True)
        assert (tmp_path / "file").read_bytes() == text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"first", sync=True)
    path.chmod(0o600)
    with pytest.raises(OSError, match="No such file"):
        write_whole(tmp_path / "missing" / "file", b"second")
    script = (
        "import os, sys; from neo_daemons import files; from pathlib import Path\n"
        "os.replace = lambda *a: os._exit(9)\n"
        "files.write_whole(Path(sys.argv[1]), b'second')"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 9
    assert path.read_bytes() == b"first"
    leftovers = list(tmp_path.glob(".*.tmp"))
    assert len(leftovers) == 1
