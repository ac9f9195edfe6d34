"""Probes: a written line counts for the whole run, and errors on our side are no verdict on a daemon."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neo_daemons.definitions import (
    AnyProbe,
    Definition,
    ExecProbe,
    FileProbe,
    HttpProbe,
    Launch,
    Log,
    LogProbe,
    Port,
    TcpProbe,
)
from neo_daemons.references import expand_all
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.logs import CHUNK, DaemonLog
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.probes import Answer, Prober, Result, Target, without_requests_of
from neo_daemons.supervision.supervisor import Supervisor

from .harness import TOY, free_port

PATIENCE_S = 8
LINE = LogProbe(pattern="^started$")
WAITS = """
echo started
while [ ! -e go ]; do sleep 0.01; done
exec "$$@"
"""


def target(path: Path, *ports: int, host: str = "127.0.0.1") -> Target:
    log = DaemonLog(path / "api.log", Log(max_bytes=8192, keep=1))
    return Target(host, {f"p{port}": port for port in ports}, {}, "/", log, log.end, {})


def check(probe: AnyProbe, aimed: Target, prober: Prober | None = None) -> Result:
    async def ask() -> Result:
        asker = prober or Prober(current_platform())
        try:
            return await asker.check(expand_all(probe, {}), aimed)
        finally:
            await asker.close()

    return asyncio.run(ask())


def supervised(
    root: Path,
    work: Callable[[Supervisor], Any],
    prober: Prober | None = None,
    *,
    detach: bool = False,
    **settings: Any,
) -> None:
    """Run `work` with a supervisor of the daemon ``api``, and stop it afterwards."""
    definition = Definition(name="api", cwd=str(root), **settings)

    async def run() -> None:
        supervisor = Supervisor(
            [definition],
            state_dir=StateDir(root / "state"),
            resolve=lambda definition: Launch(command=definition.command),
            prober=prober,
        )
        await supervisor.start()
        try:
            await work(supervisor)
        finally:
            await supervisor.stop(detach=detach)
            supervisor.release()

    asyncio.run(run())


async def reaches(daemon: SupervisedDaemon, reached: Callable[[SupervisedDaemon], bool]) -> None:
    assert await daemon.wait_for(reached, PATIENCE_S), (daemon.state, daemon.situation.detail, daemon.watcher.results)


async def until_true(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def progress(root: Path, query: str) -> FileProbe:
    return FileProbe(path=str(root / "position"), database=str(root / "log.sqlite"), query=query)


def empty(log: DaemonLog) -> None:
    log.path.write_bytes(b"")


def delete(log: DaemonLog) -> None:
    log.path.unlink()


def rotate(log: DaemonLog) -> None:
    with log.path.open("ab") as file:
        file.write(b"x" * 20_000)
    assert log.rotate()


@pytest.mark.parametrize("loss", [empty, delete, rotate], ids=lambda loss: loss.__name__)
def test_a_line_that_was_seen_counts_for_the_whole_run(tmp_path: Path, loss: Callable[[DaemonLog], None]) -> None:
    aimed = target(tmp_path)
    aimed.log.path.write_text("begin\nstarted\n")
    assert check(LINE, aimed).ok
    assert check(LINE, aimed).ok, "a second look found it no more"
    loss(aimed.log)
    assert check(LINE, aimed).ok, f"forgotten after {loss.__name__}"


def test_each_log_probe_keeps_its_own_place(tmp_path: Path) -> None:
    aimed = target(tmp_path)
    one, two = LogProbe(pattern="^one$"), LogProbe(pattern="^two$")
    aimed.log.path.write_text("one\n")
    assert (check(one, aimed).ok, check(two, aimed).ok) == (True, False)
    with aimed.log.path.open("a") as file:
        file.write("tw")
    assert not check(two, aimed).ok
    with aimed.log.path.open("a") as file:
        file.write("o\n")
    assert (check(one, aimed).ok, check(two, aimed).ok) == (True, True)
    assert check(LogProbe(pattern="^one$"), aimed).ok, "the same probe, given twice"


def test_a_line_is_found_even_if_the_log_was_emptied_or_rotated_before_the_check(tmp_path: Path) -> None:
    aimed = target(tmp_path)
    aimed.log.path.write_text("a rather long first line\n")
    assert not check(LINE, aimed).ok
    aimed.log.path.write_text("started\n")  # a program that opens /dev/stderr anew, and does not append
    assert check(LINE, aimed).ok

    other = target(tmp_path)
    with other.log.path.open("a") as file:
        file.write("started\n" + "x" * 9000 + "\n")
    assert other.log.rotate()
    assert check(LINE, other).ok


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", ""], ids=["lines", "progress-bar", "crlf", "one-line"])
def test_a_long_log_delays_no_other_daemon(tmp_path: Path, end: str) -> None:
    aimed = target(tmp_path)
    line = "progress 12%" + end
    aimed.log.path.write_text(line * (2_000_000 // len(line)))
    turns, looked = 0, False

    async def others() -> None:
        nonlocal turns
        while not looked:
            turns += 1
            await asyncio.sleep(0)

    async def looks() -> None:
        nonlocal looked
        prober = Prober(current_platform())
        other = asyncio.create_task(others())
        before = time.thread_time()
        assert not (await prober.check(LINE, aimed)).ok
        looked = True
        await other
        first_s = time.thread_time() - before
        assert turns >= 2_000_000 // CHUNK - 1, "others had no turn while it was read"
        before = time.thread_time()
        for _ in range(10):
            assert not (await prober.check(LINE, aimed)).ok
        assert time.thread_time() - before < first_s, "what was looked at is looked at again"
        with aimed.log.path.open("a") as file:
            file.write("\rstart")
        assert not (await prober.check(LINE, aimed)).ok
        with aimed.log.path.open("a") as file:
            file.write("ed\r")
        assert (await prober.check(LINE, aimed)).ok

    asyncio.run(looks())


def test_what_an_earlier_run_wrote_is_not_this_run_s(tmp_path: Path) -> None:
    (tmp_path / "api.log").write_text("started\n")
    assert not check(LINE, target(tmp_path)).ok


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["log-first", "http-first"])
def test_ready_by_a_log_line_and_a_port_whatever_comes_first(tmp_path: Path, order: slice) -> None:
    port = free_port()

    async def work(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.situation.detail == f"not listening yet on 127.0.0.1:{port}")
        api.slot.log.path.write_bytes(b"")  # the line has been seen
        (tmp_path / "go").touch()
        await reaches(api, lambda daemon: daemon.ready)
        assert "refused" not in " ".join(result.detail for _, result in api.watcher.results)

    supervised(
        tmp_path,
        work,
        command=("sh", "-c", WAITS, "sh", *TOY, f"port={port}"),
        ports={"main": Port(fixed=port)},
        ready=(LINE, HttpProbe())[order],
    )


def test_a_new_policy_does_not_make_a_seen_line_unseen(tmp_path: Path) -> None:
    port = free_port()

    async def work(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await reaches(
            api, lambda daemon: daemon.situation.detail is not None and "not listening" in daemon.situation.detail
        )
        api.slot.log.path.write_bytes(b"")
        before = api.definition
        changed = Definition(
            name="api", cwd=before.cwd, command=before.command, ports=before.ports, ready=before.ready, start_grace_s=50
        )
        changes = await supervisor.reload([changed])
        assert [change.action for change in changes] == ["apply"]
        (tmp_path / "go").touch()
        await reaches(api, lambda daemon: daemon.ready)

    supervised(
        tmp_path,
        work,
        command=("sh", "-c", WAITS, "sh", *TOY, f"port={port}"),
        ports={"main": Port(fixed=port)},
        ready=(LINE, HttpProbe()),
    )


def test_a_daemon_adopted_within_its_start_is_ready_when_its_line_is_written(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "command": ("sh", "-c", "while [ ! -e go ]; do sleep 0.01; done; echo started; exec sleep 1000"),
        "ready": (LINE,),
    }
    pids = []

    async def first(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: bool(daemon.watcher.results))
        assert api.run is not None
        pids.append(api.run.process.pid)

    async def second(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: bool(daemon.watcher.results))
        assert not api.ready
        (tmp_path / "go").touch()
        await reaches(api, lambda daemon: daemon.ready)
        assert api.run is not None
        assert api.run.adopted
        assert [api.run.process.pid] == pids

    supervised(tmp_path, first, detach=True, **settings)
    supervised(tmp_path, second, **settings)


class Flawed(Prober):
    """A prober that has a bug while `broken`."""

    broken = False
    rounds = 0

    async def _tcp(self, probe: TcpProbe, target: Target) -> Result:
        self.rounds += 1
        if self.broken:
            raise KeyError(f"a bug of ours, in round {self.rounds}")
        return await super()._tcp(probe, target)


@pytest.mark.parametrize("detail", [None, "ready after 0.10 s"])
def test_a_bug_in_a_probe_stops_no_healthy_daemon_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, detail: str | None
) -> None:
    prober = Flawed(current_platform())
    port = free_port()

    async def work(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.ready)
        assert api.run is not None
        pid = api.run.process.pid
        api.situation.progress(detail)
        prober.broken = True
        await reaches(api, lambda daemon: "a bug of ours" in (daemon.situation.detail or ""))
        rounds = prober.rounds
        await until_true(lambda: prober.rounds > rounds + 5)  # more than it has failures
        assert api.ready
        assert "unknown: " in (api.situation.detail or "")
        assert [entry.event for entry in supervisor.events(100, "api")].count("probe-unknown") == 1
        prober.broken = False
        await reaches(api, lambda daemon: daemon.situation.detail == detail)
        assert api.run.process.pid == pid

    with caplog.at_level(logging.ERROR, "neo_daemons"):
        supervised(
            tmp_path,
            work,
            prober,
            command=(*TOY, f"port={port}"),
            ports={"main": Port(fixed=port)},
            ready=(TcpProbe(),),
            live=(TcpProbe(interval_s=0.02, failures=2),),
        )
    assert caplog.text.count("Traceback") == 1, "told at each look"
    assert "in _tcp" in caplog.text


def test_a_bug_in_a_probe_does_not_decide_a_start_and_clients_stop_waiting(tmp_path: Path) -> None:
    prober = Flawed(current_platform())
    prober.broken = True
    port = free_port()

    async def work(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        await reaches(api, lambda daemon: daemon.situation.overdue)
        assert not api.ready
        assert supervisor.is_settled(api), "whoever waits for it would wait for ever"
        assert "probe-unknown" in [entry.event for entry in supervisor.events(100, "api")]
        prober.broken = False
        await reaches(api, lambda daemon: daemon.ready)
        assert api.slot.restarts == 0

    supervised(
        tmp_path,
        work,
        prober,
        command=(*TOY, f"port={port}"),
        ports={"main": Port(fixed=port)},
        ready=(TcpProbe(),),
        start_grace_s=0.2,
    )


@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_supervisor_lacks_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: int) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(lack, "there is none left")

    monkeypatch.setattr(asyncio, "open_connection", fail)
    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    monkeypatch.setattr("neo_daemons.checks.files.read_regular", fail)
    aimed = target(tmp_path, 1)
    sqlite3.connect(tmp_path / "log.sqlite").close()
    (tmp_path / "position").write_text("1")
    probes: list[AnyProbe] = [TcpProbe(), HttpProbe(), ExecProbe(command=("true",)), progress(tmp_path, "SELECT 1")]
    for probe in probes:
        found = check(probe, aimed)
        assert found.answer is Answer.UNKNOWN, found
        assert "there is none left" in found.detail


@pytest.mark.parametrize("refuses", [(), ("127.0.0.1",)], ids=["no-port-left", "no-ipv6"])
def test_a_machine_without_free_local_ports_fails_no_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: tuple[str, ...]
) -> None:
    async def both(*_: Any, **__: Any) -> list[Any]:
        stream = socket.SOCK_STREAM
        return [(socket.AF_INET6, stream, 6, "", ("::1", 1, 0, 0)), (socket.AF_INET, stream, 6, "", ("127.0.0.1", 1))]

    async def fail(_: Any, __: Any, address: tuple[Any, ...]) -> None:
        code = errno.ECONNREFUSED if address[0] in refuses else errno.EADDRNOTAVAIL
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", both)
    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_connect", fail)
    probes: list[AnyProbe] = [TcpProbe(), HttpProbe(), HttpProbe(url="http://localhost:1/")]
    for probe in probes:
        found = check(probe, target(tmp_path, 1, host="localhost"))
        assert found.answer is (Answer.FAILED if refuses else Answer.UNKNOWN), found


def test_an_unreadable_database_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "position").write_text("1")
    counting = progress(tmp_path, "SELECT count(*) FROM entries")
    with contextlib.closing(sqlite3.connect(tmp_path / "log.sqlite")) as writer:
        writer.execute("CREATE TABLE entries (a)")
        writer.execute("BEGIN EXCLUSIVE")
        found = check(counting, target(tmp_path))
        assert (found.answer, "database is locked" in found.detail) == (Answer.UNKNOWN, True), found
        writer.rollback()

    async def without_descriptors() -> Result:
        asker, aimed = Prober(current_platform()), target(tmp_path)
        assert (await asker.check(counting, aimed)).ok  # and the thread for it is there
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/dev/fd"))
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            return await asker.check(counting, aimed)
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    found = asyncio.run(without_descriptors())
    assert (found.answer, "unable to open database file" in found.detail) == (Answer.UNKNOWN, True), found


def test_what_a_daemon_lacks_is_a_verdict(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "log.sqlite").close()
    (tmp_path / "position").write_text("1")
    failing: list[AnyProbe] = [
        ExecProbe(command=("/nowhere/at/all",)),
        ExecProbe(command=("a\0b",)),
        ExecProbe(command=(sys.executable, "-c", "print('stopping'); raise SystemExit(3)")),
        FileProbe(path=str(tmp_path / "missing")),
        FileProbe(path=str(tmp_path / "position"), database=str(tmp_path / "missing"), query="SELECT 1"),
        progress(tmp_path, "SELECT 9e999"),
        progress(tmp_path, "SELECT 1; SELECT 2"),
        progress(tmp_path, "SELECT 'words'"),
        progress(tmp_path, "SELECT * FROM nothing"),
        HttpProbe(headers={"X": "\u2603"}),
        LogProbe(pattern="("),
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for probe in failing:
            aimed = target(tmp_path, listener.getsockname()[1])
            aimed.log.path.write_text("a line\n")
            aimed.log_start = 0
            found = check(probe, aimed)
            assert found.answer is Answer.FAILED, (probe, found)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connection_refused_is_said_of_a_port_that_was_open_before(tmp_path: Path, host: str) -> None:
    port = free_port()
    aimed = target(tmp_path, port, host=host)
    for probe in (TcpProbe(), HttpProbe()):
        assert check(probe, aimed).detail == f"not listening yet on {host}:{port}"
    with socket.create_server(("127.0.0.1", port)):
        assert check(TcpProbe(), aimed).ok
    assert check(TcpProbe(), aimed).detail == f"connect to {host}:{port}: connection refused"


def test_each_port_is_reported_separately(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_once, args=(listener,)).start()
        first, second = listener.getsockname()[1], free_port()
        aimed = target(tmp_path, first, second)
        assert check(HttpProbe(), aimed).ok
        found = check(HttpProbe(port=f"p{second}"), aimed)
    assert found.detail == f"not listening yet on 127.0.0.1:{second}"


def test_probe_results_contain_no_credentials(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    found = check(HttpProbe(url=f"http://me:s3cret@127.0.0.1:{port}"), target(tmp_path))
    assert (found.detail or "").startswith(f"GET http://***@127.0.0.1:{port}: ")


def answer_once(listener: socket.socket) -> None:
    for _ in range(2):  # a connection to see whether anybody listens, and the request
        connection, _ = listener.accept()
        with connection:
            if connection.recv(4096):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_url_that_is_not_served_yet_is_reported_as_such(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    aimed = target(tmp_path)
    assert check(HttpProbe(url=url), aimed).detail == f"GET {url}: not listening yet"
    aimed.external = True
    assert check(HttpProbe(url=url), aimed).detail == f"GET {url}: connection refused"


def test_a_probe_that_names_a_daemon_that_is_gone_is_no_verdict(tmp_path: Path) -> None:
    async def work(supervisor: Supervisor) -> None:
        api = supervisor.daemon("api")
        async with asyncio.timeout(PATIENCE_S):
            await api.wait_for(lambda daemon: daemon.situation.overdue, 10 * PATIENCE_S)  # whoever waits is woken
        assert "daemons.gone.url" in (api.situation.detail or "")
        assert api.slot.restarts == 0

    supervised(
        tmp_path,
        work,
        command=("sleep", "1000"),
        ready=(HttpProbe(url="${daemons.gone.url}"),),
        start_grace_s=0.1,
    )


def test_the_requests_of_probes_are_left_out() -> None:
    probes: list[AnyProbe] = [HttpProbe(path="/health"), HttpProbe(path="/"), TcpProbe()]
    kept = [
        "Traceback (most recent call last):",
        'INFO: 127.0.0.1 - "GET /healthy HTTP/1.1" 200',
        'INFO: 127.0.0.1 - "POST /health HTTP/1.1" 200',
        'INFO: 127.0.0.1 - "GET /api HTTP/1.1" 200',
    ]
    own = [
        'INFO:     127.0.0.1:5000 - "GET /health HTTP/1.1" 503 Service Unavailable',
        '127.0.0.1 - - [26/Nov/2026 17:00:00] "GET / HTTP/1.1" 200 -',
        "GET /health 503 1.2 ms",
    ]
    assert list(without_requests_of(probes, [*own, *kept, *own])) == kept
    assert list(without_requests_of([], own)) == own
