"""Health observers: their verdicts, that a look is shared and bounded, and that they only look."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import http.server
import json
import os
import pickle
import re
import resource
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx  # noqa: F401 - the first look of a process loads it, and beside a load has no time left then
import msgspec
import pytest

from neo_daemons import procfs, records
from neo_daemons.config import ConfigError
from neo_daemons.health import (
    BridgeObserver,
    ChromaObserver,
    DatabaseLifecycleService,
    HealthReport,
    HttpObserver,
    InferenceLifecycleService,
    MlxObserver,
    NotReady,
    Observation,
    Observer,
    ProcessObserver,
    TcpObserver,
    Unhealthy,
    acheck_all,
    bridge,
    check_all,
    project_observers,
)
from neo_daemons.health.background import background
from neo_daemons.health.record import weigh
from neo_daemons.records import DaemonRecord, Identity
from neo_daemons.state_dir import StateDir
from tests.harness import PATIENCE_S, Child, Project, free_port, toy, until
from tests.strays import descriptors

Handler = Callable[[http.server.BaseHTTPRequestHandler], None]


class Server:
    """An HTTP server of the test's own: what it answers is the fault that is looked for."""

    def __init__(self, answer: Handler) -> None:
        self.requests: list[str] = []
        owner = self

        class Answering(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append(f"{self.command} {self.path}")
                with contextlib.suppress(ConnectionError):
                    answer(self)

            do_POST = do_GET  # noqa: N815
            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], Server]]:
    servers: list[Server] = []

    def make(answer: Handler) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def hung() -> Iterator[str]:
    """The URL of a server that lets everybody connect and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def says(status: int, body: Any = b"", **headers: str) -> Handler:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def routes(**answers: Handler) -> Handler:
    """By the last part of the path."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        answers.get(request.path.rpartition("/")[2], says(404))(request)

    return answer


def sees(observer: Observer[Any], status: str) -> Any:
    """The first look that comes to this: a short one may have no time for it, beside whatever load."""

    def look() -> Any:
        seen = observer.check()
        return seen if seen.status == status else None

    return until(look, f"a look that says {status}")


CHROMA = {
    "heartbeat": says(200, {"nanosecond heartbeat": 7}),
    "version": says(200, "1.0.0"),
    "collections_count": says(200, 3),
}
COMPLETION = says(200, {"model": "m", "choices": [{}]})
MLX = {"health": says(200, {"status": "ok"}), "completions": COMPLETION}


# Verdicts on what answers


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (says(200), "healthy", ""),
        (says(204), "healthy", ""),
        (says(503, b"loading the model"), "unhealthy", "503 Service Unavailable.*loading the model"),
        (says(500), "unhealthy", "500 Internal Server Error"),
        (says(404, b"no such page"), "unhealthy", "wrong service.*404 Not Found.*no such page.*listens there"),
        (says(301, Location="http://elsewhere.invalid/"), "unhealthy", "wrong service.*301"),
        (says(401), "unhealthy", "wants credentials"),
        (lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n"), "unhealthy", "does not speak HTTP"),
        (lambda request: None, "unhealthy", "does not speak HTTP|cut"),
    ],
)
def test_an_answer_is_judged(serve: Callable[[Handler], Server], answer: Handler, status: str, reason: str) -> None:
    server = serve(answer)
    seen = HttpObserver(server.url, name="api").check()
    assert (seen.status, seen.ready) == (status, status == "healthy"), seen
    assert re.search(reason, "; ".join(seen.reasons)), seen
    assert seen.url == server.url
    assert seen.latency_ms is not None
    assert (seen.pid, seen.managed, seen.record) == (os.getpid(), None, None), "who listens is seen"


def test_status_and_body_can_be_named(serve: Callable[[Handler], Server]) -> None:
    server = serve(says(418, b"short and stout"))
    good = HttpObserver(server.url, name="pot", path="/tea", status=[418], body="st[o]ut").check()
    assert (good.status, good.details.http_status) == ("healthy", 418)
    bad = HttpObserver(server.url, name="pot", status=[418], body="coffee").check()
    assert bad.status == "unhealthy"
    assert "'coffee' is not in the answer" in bad.reasons[0]
    assert server.requests == ["GET /tea", "GET /"]


def test_nobody_is_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for observer in (
        HttpObserver(url, name="api"),
        ChromaObserver(url),
        MlxObserver(url),
        TcpObserver(port=int(url.rpartition(":")[2]), name="db"),
    ):
        seen = observer.check()
        assert (seen.status, seen.ready, seen.pid) == ("unhealthy", False, None)
        assert "connection refused" in seen.reasons[0]
    seen = HttpObserver("http://no-such-host.invalid:1", name="api").check()
    assert seen.status == "unhealthy", seen


def test_credentials_are_used_and_never_shown(serve: Callable[[Handler], Server]) -> None:
    given: list[tuple[str | None, str | None]] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        given.append((request.headers["Authorization"], request.headers["X-Token"]))
        says(503)(request)

    server = serve(answer)
    observer = HttpObserver(server.url.replace("//", "//user:hunter2@"), name="api", headers={"X-Token": "swordfish"})
    seen = observer.check()
    assert given == [("Basic dXNlcjpodW50ZXIy", "swordfish")]
    with pytest.raises(Unhealthy) as refused:
        observer.ensure_healthy()
    for text in (repr(observer), repr(seen), str(seen), str(refused.value), check_all([observer]).json()):
        assert "hunter2" not in text
        assert "swordfish" not in text


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://127.0.0.1/", "http://127.0.0.1:70000", "http://[::1"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    for make in (ChromaObserver, MlxObserver, lambda url: HttpObserver(url, name="api")):
        with pytest.raises(ValueError, match="is not a URL; write one such as"):
            make(url)


def test_arguments_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="timeout_s=0"):
        ChromaObserver("http://127.0.0.1:1", timeout_s=0)
    with pytest.raises(ValueError, match="both daemon_dir and database"):
        BridgeObserver(tmp_path)
    with pytest.raises(ValueError, match="give a port"):
        TcpObserver(name="db")


# chroma


def test_chroma_is_judged_by_its_store(serve: Callable[[Handler], Server]) -> None:
    seen = ChromaObserver(serve(routes(**CHROMA)).url).check()
    assert (seen.status, seen.details.store, seen.details.collections) == ("healthy", "readable", 3)
    assert (seen.details.version, seen.details.heartbeat_ns) == ("1.0.0", 7)
    for broken, status, reason in (
        ({"collections_count": says(500, b"disk I/O error")}, "unhealthy", "store cannot be read: 500.*disk I/O"),
        ({"collections_count": says(404, b"no database")}, "degraded", "no such database"),
        ({"heartbeat": says(410)}, "unhealthy", "wrong service: what answers is not chroma .410 Gone"),
        ({"heartbeat": says(200, {"status": "ok"})}, "unhealthy", "wrong service"),
        ({"heartbeat": says(200, b"\xff\xfe")}, "unhealthy", "wrong service"),
        ({"heartbeat": says(200, [])}, "unhealthy", "wrong service"),
    ):
        seen = ChromaObserver(serve(routes(**CHROMA | broken)).url).check()
        assert seen.status == status, seen
        assert re.search(reason, "; ".join(seen.reasons)), seen


def test_a_store_that_does_not_answer_in_time_is_not_a_dead_server(serve: Callable[[Handler], Server]) -> None:
    ended = threading.Event()

    def silent(request: http.server.BaseHTTPRequestHandler) -> None:
        ended.wait(PATIENCE_S)

    server = serve(routes(**CHROMA | {"collections_count": silent}))
    try:
        seen = sees(ChromaObserver(server.url, timeout_s=0.2), "degraded")
        assert seen.details.heartbeat_ns == 7
        assert re.search("no answer within 0.2 s", seen.reasons[0])
    finally:
        ended.set()


def test_chroma_is_asked_for_a_collection_by_its_name_only(serve: Callable[[Handler], Server]) -> None:
    name = "a b/../c?d"
    server = serve(routes(**CHROMA | {"a%20b%2F..%2Fc%3Fd": says(200, {"id": "some-id"}), "count": says(200, 12)}))
    seen = ChromaObserver(server.url, collection=name).check()
    assert (seen.details.collection_exists, seen.details.collection_count) == (True, 12), seen
    assert any(request.endswith("/collections/some-id/count") for request in server.requests)
    seen = ChromaObserver(server.url, collection="other").check()
    assert (seen.status, seen.details.collection_exists, seen.details.collection_count) == ("healthy", False, None)


def test_a_data_directory_that_is_gone_is_seen(serve: Callable[[Handler], Server], tmp_path: Path) -> None:
    server = serve(routes(**CHROMA))
    observer = ChromaObserver(server.url, data_dir=tmp_path)
    assert observer.check().details.store == "deleted"
    store = tmp_path / "chroma.sqlite3"
    store.touch()
    assert observer.check().details.store == "readable"
    with store.open():  # what the listening process, this one, has open
        store.unlink()
        store.touch()
        seen = observer.check()
        assert (seen.status, seen.details.store) == ("unhealthy", "deleted"), "replaced, and so not its own"


# mlx


def test_the_model_is_asked_rarely_and_once_by_all(serve: Callable[[Handler], Server]) -> None:
    server = serve(routes(**MLX))
    for _ in range(20):
        seen = MlxObserver(server.url).check()
        assert (seen.status, seen.details.answers, seen.details.model) == ("healthy", True, "m")
    assert server.requests.count("POST /v1/chat/completions") == 1
    assert server.requests.count("GET /health") == 20
    seen = MlxObserver(serve(routes(**MLX)).url, answer_every_s=None).check()
    assert (seen.status, seen.details.answers) == ("healthy", None)


def test_a_model_that_has_not_answered_yet_is_unknown_and_not_dead(serve: Callable[[Handler], Server]) -> None:
    answer = threading.Event()

    def late(request: http.server.BaseHTTPRequestHandler) -> None:
        answer.wait(PATIENCE_S)
        COMPLETION(request)

    server = serve(routes(**MLX | {"completions": late}))
    observer = MlxObserver(server.url, timeout_s=0.2)
    for _ in range(3):
        seen = sees(observer, "unknown")
        assert (seen.ready, seen.details.answers) == (False, None), seen
        assert seen.details.asking_for_s is not None
    assert server.requests.count("POST /v1/chat/completions") == 1, "one question at a time"
    answer.set()
    assert observer.wait_until_ready(PATIENCE_S).details.answers is True


def test_a_model_that_errs_is_unhealthy_and_one_that_is_back_is_asked_again(
    serve: Callable[[Handler], Server],
) -> None:
    answers = {**MLX, "completions": says(500, b"out of memory")}
    server = serve(lambda request: routes(**answers)(request))
    observer = MlxObserver(server.url)
    seen = observer.check()
    assert (seen.status, seen.details.answers) == ("unhealthy", False)
    assert "out of memory" in seen.reasons[0]
    answers["health"] = says(503, {"status": "loading"})
    assert "503 Service Unavailable" in observer.check().reasons[0]
    answers |= MLX
    assert observer.check().status == "healthy", "asked anew as soon as it is back"


# A look is shared and bounded


def test_a_thousand_callers_cost_one_request(serve: Callable[[Handler], Server]) -> None:
    go = threading.Event()

    def held(request: http.server.BaseHTTPRequestHandler) -> None:
        go.wait(PATIENCE_S)
        says(200)(request)

    server = serve(held)
    observer = HttpObserver(server.url, name="api", timeout_s=PATIENCE_S)

    async def waiting() -> int:
        return sum(task.get_coro().__name__ == "_answer" for task in asyncio.all_tasks())  # type: ignore[union-attr]

    async def many(count: int) -> list[Observation[Any]]:
        asked = [asyncio.ensure_future(observer.acheck()) for _ in range(count)]
        await asyncio.to_thread(until, everybody_waits, "all callers to wait")
        asked[0].cancel()  # whoever was first may leave: the look is everybody's
        await asyncio.to_thread(until, lambda: asked[0].cancelled(), "one to leave")
        left.append(count)
        await asyncio.to_thread(until, lambda: len(left) == 2, "one of each loop to leave")
        go.set()
        return list(await asyncio.gather(*asked[1:]))

    left: list[int] = []

    def everybody_waits() -> bool:
        return bool(left) or background().submit(waiting()).result() == 1000 + 100 + 18

    with ThreadPoolExecutor(20) as pool:  # other threads, and another event loop
        others = [pool.submit(observer.check) for _ in range(18)]
        loop = pool.submit(lambda: asyncio.run(many(100)))
        seen = asyncio.run(many(1000)) + loop.result() + [other.result() for other in others]
    assert len(seen) == 999 + 99 + 18
    assert {(one.status, one.observed_at) for one in seen} == {("healthy", seen[0].observed_at)}
    assert server.requests == ["GET /"]


def test_a_hung_daemon_costs_no_more_than_the_timeout(hung: str) -> None:
    for observer in (HttpObserver(hung, name="api", timeout_s=0.2), ChromaObserver(hung, timeout_s=0.2)):
        before = time.monotonic()
        seen = observer.check()
        assert time.monotonic() - before < PATIENCE_S / 4
        assert seen.status == "unhealthy"
        assert "no answer within 0.2 s" in seen.reasons[0]
    patient = HttpObserver(hung, name="api", timeout_s=PATIENCE_S)
    before = time.monotonic()
    seen = patient.check(timeout_s=0.1)
    assert time.monotonic() - before < PATIENCE_S / 4
    assert (seen.status, seen.ready) == ("unknown", False), "a look that is in flight says nothing of the daemon"
    assert "has not come back within 0.1 s" in seen.reasons[0]
    assert asyncio.run(patient.acheck(timeout_s=0.1)).status == "unknown"


def test_a_server_that_never_stops_talking_costs_no_more_either(serve: Callable[[Handler], Server]) -> None:
    ended = threading.Event()

    def trickle(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not ended.wait(0.01):
            request.wfile.write(b"x")

    def flood(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not ended.is_set():
            request.wfile.write(b"x" * 65_536)

    try:
        assert "no answer within" in HttpObserver(serve(trickle).url, name="api", timeout_s=0.2).check().reasons[0]
        assert HttpObserver(serve(flood).url, name="api", timeout_s=PATIENCE_S).check().status == "healthy"
    finally:
        ended.set()


def test_ten_thousand_looks_at_a_hung_daemon_leave_nothing(hung: str) -> None:
    observers: list[Any] = [HttpObserver(hung, name=f"api{number}", timeout_s=0.1) for number in range(99)]
    observers.append(ChromaObserver(hung, timeout_s=0.1))

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    def count() -> tuple[int, int, int]:
        running = background().submit(tasks()).result()
        return len(descriptors(os.getpid())), threading.active_count(), running

    async def rounds(number: int) -> set[str]:
        seen = set()
        for _ in range(number):
            seen |= {one.status for one in await asyncio.gather(*(observer.acheck() for observer in observers))}
        return seen

    until(lambda: count()[2] == 1, "the looks of other tests to end")
    before = count()
    assert asyncio.run(rounds(100)) <= {"unhealthy", "unknown"}
    until(lambda: count() == before, f"the same descriptors, threads and tasks as before: {before}, now {count()}")


def test_only_a_healthy_result_is_used_again_and_tells_its_age(serve: Callable[[Handler], Server]) -> None:
    status = [503]
    server = serve(lambda request: says(status[0])(request))
    observer = HttpObserver(server.url, name="api", reuse_s=PATIENCE_S)
    assert [observer.check().status for _ in range(3)] == ["unhealthy"] * 3
    assert len(server.requests) == 3
    status[0] = 200
    first = observer.check()
    assert (first.status, first.age_s) == ("healthy", 0.0)
    until(lambda: time.time() > first.observed_at + 0.1, "some time to pass")
    again = observer.check()
    assert again.observed_at == first.observed_at
    assert again.age_s >= 0.1
    assert "seen 0." in str(again)
    assert len(server.requests) == 4
    status[0] = 503
    with pytest.raises(NotReady):
        observer.wait_until_ready(0.0)


def test_a_forked_process_looks_for_itself(serve: Callable[[Handler], Server]) -> None:
    server = serve(says(200))
    program = f"""
import os
from neo_daemons.health import HttpObserver
observer = HttpObserver({server.url!r}, name="api")
assert observer.is_up()
child = os.fork()
if not child:
    os._exit(0 if observer.is_up() else 1)
assert os.waitpid(child, 0)[1] == 0
assert observer.is_up()
"""
    command = [sys.executable, "-Wignore::DeprecationWarning", "-c", program]
    subprocess.run(command, check=True, timeout=PATIENCE_S)
    assert len(server.requests) == 3


def test_importing_costs_nothing_and_the_end_of_a_process_is_silent(hung: str) -> None:
    program = f"""
import sys, threading
import neo_daemons.health
heavy = {{"asyncio", "httpx", "msgspec", "sqlite3", "psutil", "subprocess"}} & set(sys.modules)
assert not heavy, heavy
observer = neo_daemons.health.HttpObserver({hung!r}, name="api", timeout_s=60)
assert "httpx" not in sys.modules
assert observer.check(0.1).status == "unknown"
threads = [thread.name for thread in threading.enumerate()]
assert threads == ["MainThread", "neo-daemons-health"], threads
"""
    command = [sys.executable, "-Werror", "-Xfaulthandler", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


# The PID record


@pytest.fixture
def supervised(project: Project) -> Project:
    project.configure(api=toy(live={"type": "http", "interval_s": 60.0}))
    project.serve()
    project.reaches("api", "ready")
    return project


def observers_of(project: Project) -> dict[str, Any]:
    return {
        "http": HttpObserver(name="api", state_dir=project.state.path),
        "tcp": TcpObserver(name="api", state_dir=project.state.path),
        "process": ProcessObserver("api", project.state.path),
    }


def look(project: Project) -> dict[str, tuple[str, str | None, bool | None, int | None]]:
    seen = {name: observer.check() for name, observer in observers_of(project).items()}
    return {name: (one.status, one.record, one.managed, one.pid) for name, one in seen.items()}


def alike(*expected: Any) -> dict[str, Any]:
    return dict.fromkeys(("http", "tcp", "process"), expected)


def test_a_managed_daemon_is_told_with_its_pid_and_restarts(supervised: Project) -> None:
    pid = supervised.daemon("api").pid
    assert pid is not None
    assert look(supervised) == alike("healthy", "live", True, pid)
    os.kill(pid, signal.SIGKILL)
    after = supervised.back("api", pid)
    seen = observers_of(supervised)["http"].check()
    assert (seen.status, seen.pid, seen.restarts, seen.url) == ("healthy", after.pid, 1, after.url)


def test_a_survivor_without_a_supervisor_is_healthy_and_not_managed(supervised: Project) -> None:
    pid = supervised.daemon("api").pid
    supervised.kill_supervisor()
    assert look(supervised) == alike("healthy", "live", False, pid)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: look(supervised)["process"][1] == "stale", "its end to be seen")
    assert look(supervised) == alike("unhealthy", "stale", False, None)
    reasons = observers_of(supervised)["http"].check().reasons
    assert "connection refused" in reasons[0]
    assert f"stale: pid {pid} is gone" in reasons[1]


def test_a_daemon_that_was_stopped_or_never_started_has_no_record(supervised: Project, tmp_path: Path) -> None:
    supervised.client.order("api", "stop", wait_s=PATIENCE_S)
    assert look(supervised) == alike("unhealthy", "missing", False, None)
    seen = HttpObserver(name="api", state_dir=tmp_path / "nowhere").check()
    assert (seen.status, seen.record) == ("unhealthy", "missing")
    assert not (tmp_path / "nowhere").exists()


def test_a_stopped_process_is_told(supervised: Project) -> None:
    pid = supervised.daemon("api").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        seen = HttpObserver(name="api", state_dir=supervised.state.path, timeout_s=0.3).check()
        assert (seen.status, seen.record, seen.pid) == ("unhealthy", "live", pid)
        assert seen.reasons == (f"pid {pid} is stopped by a signal", f"{seen.url}/: no answer within 0.3 s")
        assert look(supervised)["process"] == ("unhealthy", "live", True, pid)
    finally:
        os.kill(pid, signal.SIGCONT)


def rewrite(project: Project, **changes: Any) -> None:
    path = project.state.daemon_record("api")
    record = records.read(path, DaemonRecord)
    assert record is not None
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **changes)))


def test_records_that_lie_are_not_believed(supervised: Project) -> None:
    """Each record names the daemon's true URL, where it answers; what it says of the process is false."""
    pid = supervised.daemon("api").pid
    path = supervised.state.daemon_record("api")
    true = path.read_bytes()
    record = records.read(path, DaemonRecord)
    assert record is not None
    assert record.identity is not None
    with Child(["sleep", "600"]) as bystander:
        try:
            other = procfs.identify(bystander.pid)
            assert other is not None
            # Another process has the pid.
            rewrite(supervised, pid=bystander.pid)
            assert look(supervised)["http"] == ("degraded", "stale", False, pid)
            assert look(supervised)["process"] == ("unhealthy", "stale", False, None)
            said = observers_of(supervised)["http"].check().reasons[0]
            assert f"it answers, but its PID record is stale: pid {bystander.pid} is another process now" in said
            # A living process, with its true identity, that is no process of the daemon.
            rewrite(supervised, pid=bystander.pid, identity=other)
            assert look(supervised)["http"] == ("healthy", "unproven", None, pid)
            assert look(supervised)["process"] == ("unknown", "unproven", None, None)
            # Of another boot; of another daemon.
            path.write_bytes(true)
            rewrite(supervised, identity=Identity(boot_id="x", start_time=record.identity.start_time))
            assert look(supervised)["process"] == ("unhealthy", "stale", False, None)
            path.write_bytes(true)
            rewrite(supervised, name="another")
            assert look(supervised)["process"] == ("unknown", "damaged", None, None)
        finally:
            bystander.kill()
    path.write_bytes(true)
    assert look(supervised) == alike("healthy", "live", True, pid)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff", b'{"format": 1, "name": "api"', b"x" * 2_000_000])
def test_a_record_that_cannot_be_read_is_unknown_and_never_dead(tmp_path: Path, content: bytes) -> None:
    state = StateDir(tmp_path)
    state.create()
    state.daemon_record("api").write_bytes(content)
    for observer in (
        HttpObserver(name="api", state_dir=tmp_path),
        TcpObserver(name="api", state_dir=tmp_path),
        ProcessObserver("api", tmp_path),
        ChromaObserver(name="api", state_dir=tmp_path),
        MlxObserver(name="api", state_dir=tmp_path),
        BridgeObserver(name="api", state_dir=tmp_path),
    ):
        seen = observer.check()
        assert (seen.status, seen.record, seen.managed) == ("unknown", "damaged", None), seen
        assert "PID record cannot be used" in seen.reasons[0]


def test_a_record_cut_at_any_byte_is_survived(supervised: Project) -> None:
    path = supervised.state.daemon_record("api")
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert weigh(supervised.state, "api").standing == "damaged", whole[:length]
    path.write_bytes(whole)
    assert weigh(supervised.state, "api").standing == "live"


def test_a_stranger_on_the_port_of_a_living_daemon_is_told(
    project: Project, serve: Callable[[Handler], Server]
) -> None:
    server = serve(says(200))
    project.configure(api={**toy("quiet"), "url": server.url})
    project.serve()
    pid = project.reaches("api", "ready").pid
    seen = HttpObserver(name="api", state_dir=project.state.path).check()
    assert (seen.status, seen.record, seen.pid) == ("degraded", "live", pid)
    assert f"its port is held by pid {os.getpid()} (" in seen.reasons[0]


# What a daemon, or whoever is on its port, must not do to us


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"a":' * 60_000, b"1" * 5_000, b'{"nanosecond heartbeat": true}', b"NaN", b"\x00"]
)
def test_no_answer_breaks_a_look(serve: Callable[[Handler], Server], body: bytes) -> None:
    server = serve(says(200, body))
    for observer in (ChromaObserver(server.url), MlxObserver(server.url), HttpObserver(server.url, name="api")):
        assert observer.check().status in ("healthy", "unhealthy"), body
    server = serve(routes(**MLX | {"completions": says(200, body)}))
    for _ in range(3):
        assert MlxObserver(server.url).check().status == "unhealthy"
    assert server.requests.count("POST /v1/chat/completions") == 1, "and it is not asked at every look for that"


def test_an_answer_is_not_unpacked(serve: Callable[[Handler], Server]) -> None:
    packed = gzip.compress(gzip.compress(bytes(50_000_000)))
    server = serve(says(200, packed, **{"Content-Encoding": "gzip, gzip"}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = HttpObserver(server.url, name="api").check()
    assert (seen.status, "packed" in seen.reasons[0]) == ("unhealthy", True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kilobytes"


def test_cookies_of_one_daemon_are_not_told_another(serve: Callable[[Handler], Server]) -> None:
    cookies: list[str | None] = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        cookies.append(request.headers["Cookie"])
        says(200, **{"Set-Cookie": "session=secret; Path=/"})(request)

    for _ in range(3):
        assert HttpObserver(serve(answer).url, name="api").is_up()
    assert cookies == [None] * 3


def test_a_secret_is_not_shown_by_whoever_repeats_it(serve: Callable[[Handler], Server]) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        says(500, str(request.headers).encode())(request)

    url = serve(answer).url
    seen = HttpObserver(url, name="api", path="/p?token=swordfish", headers={"Authorization": "Bearer hunter2"}).check()
    assert "Authorization: ***" in seen.reasons[0]
    assert "hunter2" not in str(seen.as_dict())
    assert "swordfish" not in str(seen.as_dict())
    with pytest.raises(ValueError, match="header Authorization: cannot be sent") as refused:
        HttpObserver(url, name="api", headers={"Authorization": "Bearer hunter2\n"})
    assert "hunter2" not in str(refused.value)
    for bad in ("http://me:hunter2@h:0", "http://me:hun/hunter2@h:80", "http://me:hunter2@h/?q"):
        with pytest.raises(ValueError, match="is not a URL") as refused:
            ChromaObserver(bad)
        assert "hunter2" not in str(refused.value)


def test_text_from_outside_fits_into_json(tmp_path: Path) -> None:
    port = free_port()
    program = (
        f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    )
    command: list[str | bytes] = [sys.executable, "-c", program, b"\xff\x1b[31m"]
    with Child(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            observer = ChromaObserver(f"http://127.0.0.1:{port}")
            seen = until(lambda: seen if (seen := observer.check()).pid else None, "it to listen")
            report = check_all([observer])
            assert "listens there" in report.text()
            json.loads(report.json())
            assert seen.reasons[0].isprintable()
        finally:
            process.kill()


def test_a_failing_look_is_unknown_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = TcpObserver(port=1, name="db")

    async def fails(*_: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(observer, "_examine", fails)
    seen = observer.check()
    assert seen.status == "unknown"
    assert "ZeroDivisionError: a fault of ours" in seen.reasons[0]


@pytest.mark.parametrize("host", ["x" * 70, "a\0b", "ä" * 80])
def test_a_host_that_cannot_be_is_no_crash(host: str) -> None:
    assert TcpObserver(host, 80, name="db").check().status in ("unhealthy", "unknown")


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e12, -1.0, 0.0])
def test_any_time_can_be_given(serve: Callable[[Handler], Server], timeout_s: float) -> None:
    observer = HttpObserver(serve(says(200)).url, name="api")
    assert observer.check(timeout_s).status == ("healthy" if timeout_s > 0 else "unknown")
    if timeout_s > 0:
        assert observer.wait_until_ready(timeout_s).ready
    with pytest.raises(ValueError, match="nan"):
        observer.check(float("nan"))
    for bad in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="write seconds"):
            HttpObserver("http://127.0.0.1:1", name="api", timeout_s=bad)


@pytest.mark.parametrize("name", ["", "../../x", "a\0b", "\udcff", "A", "a" * 64])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not the name of a daemon"):
        ProcessObserver(name, tmp_path)


def test_a_directory_in_place_of_a_record_leaks_nothing(tmp_path: Path, wake: Bridge) -> None:
    state = StateDir(tmp_path)
    state.create()
    state.daemon_record("api").mkdir()
    observer = ProcessObserver("api", tmp_path)
    (wake.directory / "wake-daemon.pid").unlink()
    (wake.directory / "wake-daemon.pid").mkdir()
    seen = observer.check(), wake.observer.check()
    assert [one.status for one in seen] == ["unknown", "unknown"], seen
    before = len(descriptors(os.getpid()))
    for _ in range(20):
        observer.check()
        wake.observer.check()
    until(lambda: len(descriptors(os.getpid())) == before, f"the {before} descriptors of before")


def test_a_process_that_was_forked_in_the_middle_of_a_look_looks_for_itself(
    serve: Callable[[Handler], Server],
) -> None:
    go = threading.Event()

    def late(request: http.server.BaseHTTPRequestHandler) -> None:
        go.wait(PATIENCE_S)
        COMPLETION(request)

    server = serve(routes(**MLX | {"completions": late}))
    program = f"""
import os, sys
from neo_daemons.health import HttpObserver, MlxObserver
mlx = MlxObserver({server.url!r}, timeout_s=0.3)
web = HttpObserver({server.url!r}, name="web", path="/v1/chat/completions", timeout_s=50)
while mlx.check().status != "unknown":
    pass  # a look had no time, beside whatever load
looking = web.begin()
child = os.fork()
os.write(1, b"forked\\n" if child else b"born\\n")
sys.stdin.readline()
assert web.check().status == "healthy"
assert mlx.wait_until_ready(50).details.answers
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
"""
    command = [sys.executable, "-Wignore::DeprecationWarning", "-c", program]
    with Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert {process.stdout.readline(), process.stdout.readline()} == {"forked\n", "born\n"}
        go.set()
        process.communicate("\n\n", timeout=PATIENCE_S)
        assert process.returncode == 0


def test_an_answer_to_one_who_has_credentials_is_none_to_others(serve: Callable[[Handler], Server]) -> None:
    def ask(request: http.server.BaseHTTPRequestHandler) -> None:
        (COMPLETION if request.headers["Authorization"] == "Bearer good" else says(401))(request)

    server = serve(routes(**MLX | {"completions": ask}))
    without, with_them = MlxObserver(server.url), MlxObserver(server.url, headers={"Authorization": "Bearer good"})
    for _ in range(2):
        assert with_them.check().status == "healthy"
        assert without.check().status == "unhealthy"


def test_a_server_that_falters_is_not_asked_twice_at_once(serve: Callable[[Handler], Server]) -> None:
    answers, go = dict(MLX), threading.Event()

    def late(request: http.server.BaseHTTPRequestHandler) -> None:
        go.wait(PATIENCE_S)
        COMPLETION(request)

    answers["completions"] = late
    server = serve(lambda request: routes(**answers)(request))
    observer = MlxObserver(server.url, timeout_s=0.2)
    try:
        for _ in range(3):
            sees(observer, "unknown")
            answers["health"] = says(503)
            assert observer.check().status == "unhealthy"
            answers["health"] = MLX["health"]
        assert server.requests.count("POST /v1/chat/completions") == 1
    finally:
        go.set()


def test_a_record_of_another_place_says_nothing_of_a_url(
    supervised: Project, serve: Callable[[Handler], Server]
) -> None:
    seen = HttpObserver(serve(says(200)).url, name="api", state_dir=supervised.state.path).check()
    assert (seen.status, seen.record, seen.managed, seen.restarts) == ("healthy", "elsewhere", None, None)
    assert seen.pid == os.getpid()
    url = supervised.daemon("api").url
    assert url is not None
    seen = HttpObserver(url.replace("127.0.0.1", "localhost"), name="api", state_dir=supervised.state.path).check()
    assert (seen.status, seen.record, seen.managed) == ("healthy", "live", True)


def test_a_large_collection_is_no_broken_one(serve: Callable[[Handler], Server]) -> None:
    described = {"id": "some-id", "metadata": {"text": "x" * 200_000}}
    server = serve(routes(**CHROMA | {"big": says(200, described), "count": says(200, 1)}))
    assert ChromaObserver(server.url, collection="big").check().details.collection_count == 1


def test_two_of_one_name_are_both_reported() -> None:
    observers = [ChromaObserver(f"http://127.0.0.1:{free_port()}") for _ in range(2)]
    assert len(check_all(observers).healthz()[1]["checks"]["chroma"]) == 2


def test_errors_can_be_sent_to_another_process() -> None:
    with pytest.raises(Unhealthy) as refused:
        ChromaObserver(f"http://127.0.0.1:{free_port()}").ensure_healthy()
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.observation) == (str(refused.value), refused.value.observation)


def test_a_configured_external_daemon_is_looked_at_where_the_configuration_says(
    project: Project, serve: Callable[[Handler], Server]
) -> None:
    server = serve(lambda request: says(503 if request.path == "/health?deep" else 404)(request))
    probe = {"type": "http", "url": f"{server.url}/health?deep", "status": [200]}
    project.configure(theirs={"external": server.url, "ready": probe})
    assert project.run("health").returncode == 2
    assert server.requests == ["GET /health?deep"]


def test_exit_codes_do_not_lie_where_nothing_can_be_told(project: Project) -> None:
    project.configure(api={**toy(), "enabled": False})
    done = project.run("health")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no daemon is enabled here" in done.stderr
    assert "none is enabled" in project.run("health", "api").stderr

    def bash(script: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", script]
        return subprocess.run(
            command, cwd=project.root, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    url = f"http://127.0.0.1:{free_port()}"
    command = f"{shlex.quote(sys.executable)} -m neo_daemons health api --url {url}"
    for pipe, code in ((f"{command} | true; exit ${{PIPESTATUS[0]}}", 2), (f"{command} > /dev/full", 3)):
        ended = bash(pipe)
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr
    ended = bash(f"mkdir gone; cd gone; rmdir ../gone; {shlex.quote(sys.executable)} -m neo_daemons health")
    assert ended.returncode == 3, ended


def test_each_kind_of_address_has_its_own_listener() -> None:
    with socket.create_server(("0.0.0.0", 0)) as four:
        port = four.getsockname()[1]
        with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False) as six:
            inodes = {one: str(os.fstat(one.fileno()).st_ino) for one in (four, six)}
            assert procfs.listening_socket("127.0.0.1", port) == inodes[four]
            assert procfs.listening_socket("::1", port) == inodes[six]


# Waiting, errors, changes


def test_a_wait_sees_a_daemon_that_somebody_else_starts(project: Project) -> None:
    project.configure(api=toy())
    observer = HttpObserver(name="api", state_dir=project.state.path)
    with ThreadPoolExecutor(2) as pool:
        waits = [
            pool.submit(observer.wait_until_ready, PATIENCE_S),
            pool.submit(lambda: asyncio.run(observer.await_until_ready(PATIENCE_S))),
        ]
        project.serve()
        for wait in waits:
            assert wait.result().pid == project.daemon("api").pid


def test_a_wait_in_vain_ends_in_time_says_why_and_starts_nothing(project: Project) -> None:
    project.configure(api=toy())
    observer = HttpObserver(name="api", state_dir=project.state.path)
    before = time.monotonic()
    with pytest.raises(NotReady, match=r"api is unhealthy: there is no PID record .*: it was not started. Start it"):
        observer.wait_until_ready(0.3)
    assert 0.3 <= time.monotonic() - before < PATIENCE_S / 4
    assert not project.state.path.exists()


def test_the_command_of_the_error_is_the_one_that_mends_it(project: Project) -> None:
    project.configure(api=toy(live={"type": "http", "interval_s": 60.0}))
    observer = HttpObserver(name="api", state_dir=project.state.path)

    def mend() -> None:
        with pytest.raises(Unhealthy) as refused:
            observer.ensure_healthy()
        command = re.search(r"(?:cd (\S+) && )?\S+ -m neo_daemons (\S+(?: \S+ --state-dir \S+)?)$", str(refused.value))
        assert command is not None, refused.value
        done = project.run(*command[2].split())
        assert done.returncode == 0, done
        assert observer.ensure_healthy().status == "healthy"

    mend()  # nothing runs: up
    project.client.order("api", "stop", wait_s=PATIENCE_S)
    mend()  # a supervisor does: start
    pid = project.daemon("api").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    mend()  # it hangs: restart
    assert project.run("down").returncode == 0
    with pytest.raises(Unhealthy, match="Whoever runs it must mend it"):
        HttpObserver(f"http://127.0.0.1:{free_port()}", name="api").ensure_healthy()


def test_changes_are_seen_as_they_happen_and_nothing_is_started(supervised: Project) -> None:
    observer = HttpObserver(name="api", state_dir=supervised.state.path)
    first = supervised.daemon("api").pid
    assert first is not None

    async def changes() -> list[tuple[str, bool | None, int | None]]:
        seen: list[tuple[str, bool | None, int | None]] = []
        async for change in observer.watch(interval_s=0.01):
            seen.append((change.after.status, change.after.managed, change.after.pid))
            match len(seen):
                case 1:
                    assert change.before is None
                    await asyncio.to_thread(supervised.kill_supervisor)
                case 2:
                    assert change.before is not None
                    assert change.before.managed is True
                    os.kill(first, signal.SIGKILL)
            if change.after.status == "unhealthy":
                break
        return seen

    seen = asyncio.run(asyncio.wait_for(changes(), PATIENCE_S))
    assert seen[0] == ("healthy", True, first)
    assert seen[1] == ("healthy", False, first)
    assert seen[-1][0] == "unhealthy"
    assert supervised.left() == []
    supervised.serve()
    assert observer.wait_until_ready(PATIENCE_S).pid not in (None, first)


def test_the_worst_of_a_set_is_its_status(serve: Callable[[Handler], Server], hung: str) -> None:
    healthy = HttpObserver(serve(says(200)).url, name="good")
    degraded = ChromaObserver(serve(routes(**CHROMA | {"collections_count": says(404)})).url, name="half")
    unknown = MlxObserver(
        serve(routes(**MLX | {"completions": lambda request: request.rfile.read()})).url, name="busy", timeout_s=1.0
    )
    unhealthy = HttpObserver(serve(says(503, b"no")).url, name="bad")
    sets: tuple[tuple[list[Observer[Any]], str, int, str], ...] = (
        ([healthy], "healthy", 200, "pass"),
        ([healthy, degraded], "degraded", 200, "warn"),
        ([degraded, healthy, unknown], "unknown", 503, "fail"),
        ([unhealthy, unknown, degraded, healthy], "unhealthy", 503, "fail"),
        ([], "healthy", 200, "pass"),
    )
    for observers, status, code, word in sets:
        seen = check_all(observers)
        assert seen.status == status
        assert asyncio.run(acheck_all(observers)).status == status
        http_status, body = seen.healthz()
        assert (http_status, body["status"], set(body["checks"])) == (code, word, {one.name for one in observers})
        json.dumps(body)
        assert [line.partition(":")[0] for line in seen.text().splitlines()] == [one.name for one in observers]
        assert [one["status"] for one in json.loads(seen.json())["daemons"]] == [one.status for one in seen.daemons]
    assert isinstance(seen, HealthReport)
    assert check_all([unhealthy]).daemon("bad").details.http_status == 503


def test_the_services_of_old_look_and_own_nothing(serve: Callable[[Handler], Server]) -> None:
    answers = dict[str, Handler]()
    server = serve(lambda request: routes(**answers)(request))
    database = DatabaseLifecycleService(ChromaObserver(server.url))
    inference = InferenceLifecycleService(MlxObserver(server.url))
    assert database.start_database()["status"] == "offline"
    assert "-m neo_daemons up" in database.manage_database("start", wait_s=0.1)["detail"]
    assert inference.start_inference_server()["status"] == "offline"
    assert not database.is_db_running()
    assert not database.wait_for_heartbeat(0.1)
    assert database.get_database_status()["running"] is False
    answers |= CHROMA | MLX
    assert database.wait_for_heartbeat(PATIENCE_S)
    assert database.is_db_running()
    for started in (
        database.start_database(),
        database.manage_database("start"),
        inference.start_inference_server(),
        inference.manage_inference("start"),
    ):
        assert (started["status"], started["pid"], started["managed"]) == ("already_running", os.getpid(), None)
    for stopped in (
        database.stop_database(),
        database.manage_database("stop"),
        inference.stop_inference_server(),
        inference.manage_inference("stop"),
    ):
        assert stopped["status"] == "not_owned"
        assert "owns no daemon" in stopped["detail"]
    for status in (database.get_database_status(), inference.get_status()):
        assert (status["running"], status["status"], status["pid"]) == (True, "healthy", os.getpid())
    assert "unknown action 'purge'" in database.manage_database("purge")["error"]
    nobody = DatabaseLifecycleService(ChromaObserver(f"http://127.0.0.1:{free_port()}"))
    assert nobody.stop_database()["status"] == "not_running"


# The bridge: files, and a process that is called like it


GRAPH = """
import sqlite3, sys
graph = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    graph.execute(line)
    print("done", flush=True)
graph.close()
"""


class Bridge:
    """The files of a bridge, and a process in its place."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "wake"
        self.directory.mkdir()
        self.database = root / "graph.sqlite"
        # In a process of its own, as SQLite shares within one what is to be seen from outside.
        self.graph = subprocess.Popen([sys.executable, "-c", GRAPH, str(self.database)], stdin=-1, stdout=-1, text=True)
        self.log("PRAGMA journal_mode=WAL")
        self.log("CREATE TABLE GraphLog (log_id INTEGER PRIMARY KEY)")
        script = root / "ai/daemons/wake/daemon.mjs"
        script.parent.mkdir(parents=True)
        script.write_text("import signal; signal.pause()")
        self.process = subprocess.Popen([sys.executable, "-IS", str(script)])
        self.say("wake-daemon.pid", self.process.pid)
        self.observer = BridgeObserver(self.directory, self.database)
        # Until its exec it is called like us.
        until(lambda: procfs.command(self.process.pid)[-1:] == (str(script),), "the process to be in place")

    def say(self, name: str, content: Any) -> None:
        (self.directory / name).write_text(str(content))

    def log(self, what: int | str) -> None:
        assert self.graph.stdin is not None
        assert self.graph.stdout is not None
        print(f"INSERT INTO GraphLog VALUES ({what})" if isinstance(what, int) else what, file=self.graph.stdin)
        self.graph.stdin.flush()
        assert self.graph.stdout.readline() == "done\n"

    def close_graph(self) -> None:
        self.graph.communicate()

    def files(self) -> dict[str, tuple[int, str]]:
        return {
            path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in self.database.parent.glob("graph.sqlite*")
        }

    def close(self) -> None:
        self.close_graph()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def wake(tmp_path: Path) -> Iterator[Bridge]:
    bridge = Bridge(tmp_path)
    yield bridge
    bridge.close()


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
    assert "it lives and does not work: at 5, behind 9" in seen.reasons[0]
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
    assert "ends at every start because of it" in reason()
    wake.say("wake-daemon.pid", "1")
    assert "names no process" in reason()
    wake.say("wake-daemon.pid", os.getpid())
    assert f"pid {os.getpid()}, which" in reason()
    assert "is another process now" in reason()
    # The pid has passed on to one that is called the same, and that was started after the file was written.
    wake.say("wake-daemon.pid", wake.process.pid)
    os.utime(wake.directory / "wake-daemon.pid", (1, 1))
    assert "is another process now" in reason()
    (wake.directory / "wake-daemon.pid").unlink()
    assert "it does not run: there is none of wake-daemon.pid" in reason()
    wake.say("bridge-daemon.pid", wake.process.pid)
    assert wake.observer.check().status == "healthy"
    wake.process.kill()
    wake.process.wait()
    assert f"pid {wake.process.pid}, which" in reason()
    assert "is gone" in reason()


def test_a_bridge_that_is_stopped_or_blind_is_told(wake: Bridge) -> None:
    wake.process.send_signal(signal.SIGSTOP)
    until(lambda: procfs.is_stopped(wake.process.pid), "it to stop")
    assert "is stopped by a signal" in wake.observer.check().reasons[0]
    wake.process.send_signal(signal.SIGCONT)
    wake.say("lastSyncId", "garbage")
    assert "'garbage'" in wake.observer.check().reasons[0]
    (wake.directory / "lastSyncId").unlink()
    wake.close_graph()
    wake.database.write_bytes(b"no database at all, but long enough to be mistaken for one" * 20)
    assert wake.observer.check().status == "unknown", "nobody has it open"
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
            until(lambda: str(wake.database) in procfs.open_files(process.pid), "it to have the database open")
            wake.say("wake-daemon.pid", process.pid)
            assert wake.observer.check().status == "healthy"
            kept = wake.database.read_bytes()
            wake.database.unlink()
            wake.database.write_bytes(kept)
            seen = wake.observer.check()
            assert seen.status == "unhealthy"
            assert "its database was deleted under it" in seen.reasons[0]
        finally:
            process.kill()


def test_a_slow_database_holds_up_neither_its_own_caller_nor_others(
    wake: Bridge, serve: Callable[[Handler], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    go, readers = threading.Event(), []

    def slow(database: Path) -> int:
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


# The command line, and the project's own observers


def test_the_exit_code_says_how_the_worst_is(project: Project, serve: Callable[[Handler], Server]) -> None:
    good, bad = serve(says(200)).url, serve(says(503)).url
    half = serve(routes(**CHROMA | {"collections_count": says(404)})).url
    assert project.run("health").returncode == 2, "nothing was started"
    assert not project.state.path.exists()
    for arguments, code in (
        (("api", "--url", good), 0),
        (("chroma", "--url", half), 1),
        (("api", "--url", bad), 2),
        (("api", "other", "--url", f"api={good}", "--url", f"other={bad}"), 2),
    ):
        done = project.run("health", *arguments)
        assert done.returncode == code, done
        assert done.stdout.startswith(f"{arguments[0]}: ")
        assert not done.stderr
    seen = json.loads(project.run("health", "api", "--url", bad, "--json").stdout)
    assert (seen["status"], seen["daemons"][0]["details"]["http_status"]) == ("unhealthy", 503)
    state = StateDir(project.state.path)
    state.create()
    state.daemon_record("api").write_bytes(b"{")
    project.configure(api=toy())
    assert project.run("health").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "there is no daemon 'nope' here; enabled are api"),
        (("--url", "http://127.0.0.1:1"), "of which daemon? write --url NAME=http://127.0.0.1:1"),
        (("api", "--url", "api=nonsense"), "'nonsense' is not a URL; write one such as"),
        (("--wait", "soon"), "'soon': write seconds"),
        (("--bogus",), "unrecognized arguments: --bogus"),
        (("--config", "/nonexistent.toml"), "cannot be read"),
    ],
)
def test_what_cannot_be_looked_at_is_one_clear_error(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    project.configure(api=toy())
    done = project.run("health", *arguments)
    assert done.returncode == 3, done
    assert message in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


def test_the_command_waits_for_what_somebody_else_starts(project: Project) -> None:
    project.configure(api=toy())
    assert project.run("health", "--wait", "0.2").returncode == 2
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(project.run, "health", "--wait", str(PATIENCE_S))
        project.serve()
        assert waiting.result().returncode == 0


def test_every_configured_daemon_has_the_observer_that_fits(project: Project) -> None:
    project.configure(
        web={**toy(), "ready": {"type": "http", "path": "/p", "status": [200, 501]}},
        posted={**toy(), "ready": {"type": "http", "method": "POST"}},
        raw={**toy(), "ready": {"type": "tcp"}},
        worker=toy("quiet"),
        chroma={"port": "auto", "enabled": False},
        theirs={"external": "http://127.0.0.1:1"},
    )
    observers = project_observers(directory=project.root, urls={"mlx": "http://127.0.0.1:2"})
    kinds = {name: type(observer).__name__ for name, observer in observers.items()}
    assert kinds == {
        "web": "HttpObserver",
        "posted": "TcpObserver",
        "raw": "TcpObserver",
        "worker": "ProcessObserver",
        "theirs": "HttpObserver",
        "mlx": "MlxObserver",
    }
    project.serve()
    for name in ("web", "posted", "raw", "worker"):
        project.reaches(name, "ready", "running")
        seen = observers[name].check()
        assert (seen.status, seen.managed, seen.pid) == ("healthy", True, project.daemon(name).pid), seen
    with pytest.raises(ConfigError, match="is not a URL"):
        project_observers(directory=project.root, urls={"mlx": "nonsense"})


# What /proc tells


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
