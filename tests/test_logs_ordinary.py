"""Logs that other programs empty, delete or move, and their lines that are shown after a failed run."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.definitions import HttpProbe, Log, Port, Restart
from neo_daemons.supervision.describe import relevant_lines
from neo_daemons.supervision.logs import DaemonLog

from .harness import Project, toy, until
from .test_probes import reaches, supervised, until_true

pytestmark = pytest.mark.long


def empty(path: Path) -> None:
    path.write_bytes(b"")


def empty_and_outgrow(path: Path) -> None:
    path.write_bytes(b"another text that is longer than all that was there before\n")


def copy_and_empty(path: Path) -> None:
    """Empty the log, like logrotate with copytruncate."""
    path.with_name("copy").write_bytes(path.read_bytes())
    path.write_bytes(b"")


def replace(path: Path) -> None:
    """Replace the log, like logrotate with create when the daemon reopens its log."""
    path.rename(path.with_name("moved"))
    path.touch()


def followed(log: DaemonLog, *steps: Callable[[], Any]) -> str:
    """Return what a follower sees after each of the steps, up to the line `end`."""

    async def follow() -> str:
        pieces = log.follow(10, poll_s=0.01)
        seen = await anext(pieces)
        for step in steps:
            step()
            seen += await anext(pieces)
        while not seen.endswith("end\n"):
            seen += await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        return seen

    return asyncio.run(follow())


def add(path: Path, text: str) -> Callable[[], None]:
    def write() -> None:
        with path.open("a") as file:
            file.write(text)

    return write


@pytest.mark.parametrize("loss", [empty, empty_and_outgrow, copy_and_empty, replace], ids=lambda loss: loss.__name__)
def test_a_follower_goes_on_after_the_log_was_emptied_and_says_so(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    log = DaemonLog(tmp_path / "api.log", Log())
    log.path.write_text("one\ntwo\n")
    seen = followed(log, lambda: loss(log.path), add(log.path, "three\nend\n"))
    assert seen.startswith("one\ntwo\n[neo-daemons: ")
    assert seen.count("was emptied or replaced") == 1
    assert seen.endswith("three\nend\n")
    assert ("another text" in seen) == (loss is empty_and_outgrow)


def test_a_follower_reports_a_deletion_and_continues_with_the_next_log(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log())
    log.path.write_text("one\n")
    log.inode = log.path.stat().st_ino

    def start_anew() -> None:
        add(log.path, "two\nend\n")()
        log.inode = log.path.stat().st_ino

    seen = followed(log, log.path.unlink, start_anew)
    assert seen.startswith("one\n[neo-daemons: ")
    assert seen.count("was deleted or moved, and its daemon still writes") == 1
    assert seen.endswith("two\nend\n")


def test_a_repeatedly_emptied_log_is_not_reported_each_time(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log())
    log.path.write_text("a long first line\n")
    steps = [lambda number=number: log.path.write_text("x" * (9 - number) + "\n") for number in range(5)]
    seen = followed(log, *steps, add(log.path, "end\n"))
    assert seen.count("was emptied or replaced") == 1


def test_a_writer_that_does_not_append_is_shown_without_the_hole_that_it_leaves(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192))
    with log.path.open("wb", buffering=0) as writer:
        writer.write(b"y" * 7000 + b"\n")
        position = log.end
        empty(log.path)
        writer.write(b"after the hole\n")
        assert log.tail(1) == ["after the hole"]
        data, position = log.read(position)
        assert data == b"after the hole\n"
        writer.write(b"x" * 2000)  # beyond the bound, but most of it is the hole
        assert log.path.stat().st_size > 8192
        assert not log.rotate()


def test_a_rotation_is_not_reported_as_the_work_of_another_program(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192))
    log.path.write_bytes(b"old\n" * 5000)
    seen = followed(log, lambda: (log.rotate(), add(log.path, "new\nend\n")()))
    assert "[neo-daemons" not in seen
    assert (log.cuts, log.lost) == (0, False)


def test_what_was_rotated_away_since_is_still_read(tmp_path: Path) -> None:
    log = DaemonLog(tmp_path / "api.log", Log(max_bytes=8192, keep=1))
    log.path.write_text("begin\n")
    position = log.end
    add(log.path, "".join(f"{number:07}\n" for number in range(1100)))()
    assert log.rotate()
    text = b""
    while data := log.read(position, 1000)[0]:
        text, position = text + data, position + len(data)
    assert [int(line) for line in text.split()] == list(range(1100))
    assert log.tail(2, since=6, until=6 + 8 * 3) == ["0000001", "0000002"]


@pytest.mark.parametrize("loss", [os.unlink, replace], ids=["deleted", "moved"])
def test_a_daemon_that_writes_to_a_deleted_log_is_reported_until_it_is_restarted(
    project: Project, loss: Callable[[Path], None]
) -> None:
    project.configure(api=toy("write=hello"))
    project.serve()
    project.reaches("api", "ready")
    log = project.state.daemon_log("api")
    loss(log)
    until(lambda: any(event == "log-deleted" for event, _ in project.events("api")), "the journal's entry")
    told = "was deleted or moved"
    assert told in (project.daemon("api").note or "")
    assert told in project.run("logs", "api").stdout
    assert told in project.run("why", "api").stdout
    doctor = project.run("doctor")
    assert doctor.returncode == 1
    assert f"api: {log} {told}" in doctor.stdout
    assert "restart api to get a new log" in doctor.stdout
    assert project.run("restart", "api").returncode == 0
    assert project.daemon("api").note is None
    assert "hello" in project.run("logs", "api").stdout
    assert told not in project.run("logs", "api").stdout
    assert told not in project.run("doctor").stdout
    assert [event for event, _ in project.events("api")].count("log-deleted") == 1


def test_an_emptied_log_is_noted_once_and_read_on(tmp_path: Path) -> None:
    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.ready)
        await until_true(lambda: api.slot.log.size > 100)

        def noted() -> int:
            return [entry.event for entry in supervisor.events(100, "api")].count("log-truncated")

        def cut_since(cuts: int) -> bool:
            return bool(api.slot.log.cuts > cuts)

        assert noted() == 0
        for times in range(1, 4):
            cuts = api.slot.log.cuts
            empty(api.slot.log.path)
            await until_true(functools.partial(cut_since, cuts))
            await until_true(lambda: noted() == 1)
            assert api.slot.log.tail(5) != [], times

    supervised(
        tmp_path,
        work,
        command=("sh", "-c", "n=0; while true; do n=$$((n+1)); echo line $$n to be written; sleep 0.05; done"),
    )


def test_a_bug_in_the_maintenance_of_a_log_is_reported_and_maintenance_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times = 0

    def bug() -> bool:
        nonlocal times
        times += 1
        raise TypeError(f"a bug of ours, met {times} times")

    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.ready)
        with monkeypatch.context() as patch:
            patch.setattr(api.slot.log, "rotate", bug)
            await until_true(lambda: times > 2)
            assert "a bug of ours" in caplog.text
        api.slot.log.path.write_bytes(b"x" * 9000)
        await until_true(lambda: api.slot.log.removed > 0)
        assert caplog.text.count("Traceback") == 1

    supervised(tmp_path, work, command=("sleep", "1000"), log=Log(max_bytes=4096))


def test_a_failed_rotation_is_reported_until_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.ready)
        with monkeypatch.context() as patch:
            patch.setattr(api.slot.log, "rotate", fail)
            await until_true(lambda: supervisor.status().supervisor.warning is not None)
            assert "api.log: No space left" in supervisor.status().supervisor.warning
        await until_true(lambda: supervisor.status().supervisor.warning is None)

    supervised(tmp_path, work, command=("sleep", "1000"))


def test_a_deleted_journal_is_recreated(project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    project.state.journal.unlink()
    assert project.run("restart", "api").returncode == 0
    assert '"event":"ready"' in project.state.journal.read_text()


FAILS_ONCE = """
if [ ! -e failed ]; then
  touch failed
  echo the cause of it
  for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
    echo 'INFO: "GET /health HTTP/1.1" 503 Service Unavailable'
  done
  exit 3
fi
echo the next start
exec sleep 1000
"""


def test_the_lines_shown_are_those_of_the_run_that_failed(tmp_path: Path) -> None:
    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.past.last_exit is not None and daemon.run is not None)
        await until_true(lambda: "the next start" in api.slot.log.tail(1))
        assert relevant_lines(api, 5) == (["the cause of it"], api.past.last_exit.pid)
        why = supervisor.explain("api")
        assert (why.log_tail, why.log_pid) == (("the cause of it",), api.past.last_exit.pid)
        assert "last line: the cause of it" in (why.first_cause or "")

    supervised(
        tmp_path,
        work,
        command=("sh", "-c", FAILS_ONCE.replace("$", "$$")),
        ports={"main": Port()},
        ready=(HttpProbe(path="/health"),),
    )


def test_the_requests_of_probes_are_shown_if_a_run_wrote_nothing_else(tmp_path: Path) -> None:
    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.past.failed_starts > 0)
        assert relevant_lines(api, 5)[0] == ["GET / 503"]

    supervised(
        tmp_path,
        work,
        command=("sh", "-c", "echo GET / 503; exit 3"),
        ports={"main": Port()},
        ready=(HttpProbe(),),
        restart=Restart(base_s=60, limit=1),
    )


def test_a_start_that_failed_in_provisioning_shows_its_output(tmp_path: Path) -> None:
    async def work(supervisor: Any) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.past.failed_starts > 0)
        assert "does not exist" in (api.past.history.first_cause or "")
        assert relevant_lines(api, 5) == ([], None)

    (tmp_path / "state" / "logs").mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    (tmp_path / "state" / "logs" / "api.log").write_text("of an earlier time\n")
    supervised(tmp_path, work, command=("/nowhere/at/all",))
