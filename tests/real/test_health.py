"""Observers and the real daemons, in every state that they can be brought into: the right verdict, and not one event by
which a process could have been started or signalled, or a file written."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from neo_daemons import processes, records
from neo_daemons.health import ChromaObserver
from neo_daemons.records import DaemonRecord
from pytest_neo_daemons import BridgeGraph
from tests.harness import PATIENCE_S, Project, end_marked, free_port, until

from .test_real import Chroma, configuration, deliver, wait_ready

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real"), pytest.mark.timeout(540)]

KINDS = {"chroma": "ChromaObserver", "mlx": "MlxObserver", "bridge": "BridgeObserver"}
TIMEOUT_S = 2.0
POLL_S = 0.02
"""Chroma takes many times as long to start."""


class Watched:
    """Observers in a process whose every step is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-m", "tests.watched"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={k: v for k, v in os.environ.items() if not k.startswith(("NEO_", "PYTEST_"))},
        )

    def look(self, kind: str, *args: Any, **options: Any) -> dict[str, Any]:
        """What an observer saw, having done nothing else."""
        order = {"kind": kind, "args": args, "options": {"timeout_s": TIMEOUT_S, **options}}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order, default=str), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert answer["events"] == [], order
        first, last = answer["seen"]
        assert first["status"] == last["status"], (first, last)
        return dict(last)

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("observed"))
    tables = configuration()
    project.configure(**tables)
    try:
        project.serve()
        wait_ready(project)  # it may lose a race for a port, and be started on another one
        for table in tables.values():  # from here on, nobody mends what a test breaks
            table["restart"] = "never"
        project.configure(**tables)
        project.client.reload()
        Chroma(project).put("a", "bb")
        yield project
    finally:
        left = project.close()
        end_marked(str(project.root))
    assert not left


def both_ways(project: Project, name: str) -> list[dict[str, Any]]:
    """How an observer can be told where its daemon is."""
    daemon = project.daemon(name)
    if name == "bridge":
        places = {"daemon_dir": daemon.env["NEO_AI_DAEMON_DIR"], "database": daemon.env["NEO_MEMORY_DB_PATH"]}
        return [{"state_dir": project.state.path}, places]
    return [{"state_dir": project.state.path}, {"url": daemon.url}]


def said(seen: dict[str, Any]) -> str:
    return "; ".join(seen["reasons"])


@contextlib.contextmanager
def on_record(project: Project, name: str, data: bytes) -> Iterator[None]:
    path = project.state.daemon_record(name)
    true = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(true)


def everything(root: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_what_an_observer_must_not_do_would_be_told(tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-m", "tests.programs.misdeeds", str(tmp_path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], timeout=60)


@pytest.mark.parametrize("name", KINDS)
def test_up(real: Project, watched: Watched, name: str) -> None:
    daemon = wait_ready(real)[name]
    managed, alone = (watched.look(KINDS[name], **options) for options in both_ways(real, name))
    for seen in (managed, alone):
        assert (seen["status"], seen["ready"], seen["pid"]) == ("healthy", True, daemon.pid), seen
    assert (managed["managed"], managed["record"], managed["restarts"]) == (True, "live", daemon.restarts)
    assert (alone["managed"], alone["record"], alone["restarts"]) == (None, None, None)
    details = managed["details"]
    if name == "chroma":
        assert (details["store"], details["collections"]) == ("readable", 1)
        assert details["heartbeat_ns"] > 10**18
        seen = watched.look("ChromaObserver", daemon.url, collection="kept")["details"]
        assert (seen["collection_exists"], seen["collection_count"]) == (True, 2)
        seen = watched.look("ChromaObserver", daemon.url, collection="none")["details"]
        assert (seen["collection_exists"], seen["collection_count"]) == (False, None)
    elif name == "mlx":
        assert details["answers"] is True
        assert "tiny-model" in details["model"]
    else:
        assert (details["own_pid"], details["behind"]) == (daemon.pid, 0)


@pytest.mark.parametrize("name", KINDS)
def test_hung(real: Project, watched: Watched, name: str) -> None:
    pid = wait_ready(real)[name].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: processes.is_stopped(pid), "it to stop")
        for options in both_ways(real, name):
            seen = watched.look(KINDS[name], **options, **({} if name == "bridge" else {"timeout_s": 0.2}))
            assert (seen["status"], seen["ready"], seen["pid"]) == ("unhealthy", False, pid), seen
            assert f"pid {pid} is stopped by a signal" in said(seen)
            if name != "bridge":
                assert "no answer within 0.2 s" in said(seen)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_nothing_on_the_disk_is_changed(real: Project, watched: Watched) -> None:
    """Python's audit hook does not see what SQLite does. The daemons are stopped meanwhile, and the supervisor with
    them, so that all that is written would be the observers'."""
    daemons = wait_ready(real)
    deliver(real)
    stopped = [daemons[name].pid for name in KINDS] + [real.client.status().supervisor.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
        until(lambda pid=pid: processes.is_stopped(pid), "it to stop")  # type: ignore[misc]
    try:
        before = everything(real.root)
        for name, kind in KINDS.items():
            seen = watched.look(kind, state_dir=real.state.path, timeout_s=1.0)
            assert seen["status"] == "unhealthy"
            assert name != "bridge" or seen["details"]["log_end"] > 0
        assert everything(real.root) == before
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("name", ["chroma", "mlx"])
def test_the_wrong_service_on_the_port(real: Project, watched: Watched, name: str) -> None:
    other = real.daemon("mlx" if name == "chroma" else "chroma")
    seen = watched.look(KINDS[name], other.url)
    assert (seen["status"], seen["pid"]) == ("unhealthy", other.pid)
    assert f"wrong service: it is not {'chroma' if name == 'chroma' else 'an mlx server'}" in said(seen)
    assert f"pid {other.pid} listens there" in said(seen)


def test_503_of_the_real_mlx_with_a_bad_model_and_of_anything_else(watched: Watched, tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "empty-model").mkdir()
    project.configure(mlx={"port": "auto", "model": str(tmp_path / "empty-model"), "start_grace_s": 300.0})
    project.serve()
    try:
        until(lambda: "503" in (project.daemon("mlx").detail or ""), "the server to have failed to load it")
        seen = watched.look("MlxObserver", state_dir=project.state.path)
        assert (seen["status"], seen["ready"], seen["managed"], seen["record"]) == ("unhealthy", False, True, "live")
        assert "503 Service Unavailable" in said(seen)
    finally:
        assert not project.close()

    class Unavailable(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for kind in ("ChromaObserver", "MlxObserver"):
            seen = watched.look(kind, f"http://127.0.0.1:{server.server_address[1]}")
            assert seen["status"] == "unhealthy"
            assert "503 Service Unavailable" in said(seen)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", KINDS)
def test_records_that_are_forged_or_half_written(real: Project, watched: Watched, name: str) -> None:
    daemon = wait_ready(real)[name]
    path = real.state.daemon_record(name)
    record = records.read(path, DaemonRecord)
    assert record is not None
    own = processes.identify(os.getpid())
    assert own is not None
    forged = msgspec.structs.replace(record, pid=os.getpid(), identity=own)
    with on_record(real, name, msgspec.json.encode(forged)):
        seen = watched.look(KINDS[name], state_dir=real.state.path)
        assert (seen["status"], seen["record"], seen["managed"]) == ("healthy", "unproven", None), seen
        assert seen["pid"] == daemon.pid, "the one that is seen, and not the one on record"
    recycled = msgspec.structs.replace(record, pid=os.getpid())
    with on_record(real, name, msgspec.json.encode(recycled)):
        seen = watched.look(KINDS[name], state_dir=real.state.path)
        assert (seen["status"], seen["record"], seen["managed"]) == ("degraded", "stale", False), seen
        assert f"it answers, but its PID record is stale: pid {os.getpid()} is another process now" in said(seen)
    whole = path.read_bytes()
    with on_record(real, name, whole[: len(whole) // 2]):
        seen = watched.look(KINDS[name], state_dir=real.state.path)
        assert (seen["status"], seen["record"], seen["managed"]) == ("unknown", "damaged", None), seen
        seen = watched.look(KINDS[name], **both_ways(real, name)[1], state_dir=real.state.path)
        assert (seen["status"], seen["record"]) == ("degraded", "damaged"), "where it is given, it is looked at"
    assert watched.look(KINDS[name], state_dir=real.state.path)["status"] == "healthy"


def test_a_bridge_that_lives_and_does_not_work(real: Project, watched: Watched) -> None:
    """Its database is replaced under it: it goes on polling the one that nobody writes to any more."""
    env = wait_ready(real)["bridge"].env
    graph = BridgeGraph(env)
    agent = graph.subscribe()
    graph.send(agent, "one")
    graph.await_delivery(agent)
    position = Path(env["NEO_AI_DAEMON_DIR"]) / "lastSyncId"
    at = int(position.read_text())
    true = position.read_text()
    position.write_text(str(at - 1))
    try:
        seen = watched.look("BridgeObserver", state_dir=real.state.path)
        assert (seen["details"]["position"], seen["details"]["behind"]) == (at - 1, 1)
        assert seen["status"] == "healthy", "not for long enough"
    finally:
        position.write_text(true)


# What ends the daemons comes last: the module's project does not start them again by itself.


def test_the_data_directory_deleted_under_chroma(real: Project, watched: Watched) -> None:
    daemon = wait_ready(real)["chroma"]
    assert daemon.data_dir is not None
    kept = real.root / "kept"
    shutil.copytree(daemon.data_dir, kept)
    shutil.rmtree(daemon.data_dir)
    for options in both_ways(real, "chroma"):
        seen = watched.look("ChromaObserver", **options)
        assert (seen["status"], seen["ready"], seen["details"]["store"]) == ("unhealthy", False, "deleted"), seen
        assert seen["details"]["heartbeat_ns"] is not None, "which is green all the while"
        assert "was deleted while it runs" in said(seen)
    shutil.copytree(kept, daemon.data_dir)
    seen = watched.look("ChromaObserver", state_dir=real.state.path)
    assert (seen["status"], seen["details"]["store"]) == ("unhealthy", "deleted"), "the files there are not its own"
    assert real.run("restart", "chroma").returncode == 0
    seen = watched.look("ChromaObserver", state_dir=real.state.path, collection="kept")
    assert (seen["status"], seen["details"]["collection_count"]) == ("healthy", 2)


@pytest.mark.parametrize("name", KINDS)
def test_down(real: Project, watched: Watched, name: str) -> None:
    daemon = wait_ready(real)[name]
    ways = both_ways(real, name)
    os.kill(daemon.pid, signal.SIGKILL)
    real.reaches(name, "stopped", "parked", "backoff")
    for options in ways:
        seen = watched.look(KINDS[name], **options)
        assert (seen["status"], seen["ready"], seen["pid"]) == ("unhealthy", False, None), seen
        assert ("is gone" if name == "bridge" and "database" in options else "") in said(seen)
    assert real.run("start", name).returncode == 0


def test_down_with_nobody_to_start_it_and_stale_records(real: Project, watched: Watched) -> None:
    pids = {name: daemon.pid for name, daemon in wait_ready(real).items() if name in KINDS}
    real.kill_supervisor()
    for name in KINDS:
        seen = watched.look(KINDS[name], state_dir=real.state.path)
        assert (seen["status"], seen["managed"], seen["pid"]) == ("healthy", False, pids[name]), seen
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: processes.identify(pid) is None, "it to end")  # type: ignore[misc]
    for name in KINDS:
        seen = watched.look(KINDS[name], state_dir=real.state.path)
        assert (seen["status"], seen["record"], seen["managed"]) == ("unhealthy", "stale", False), seen
        assert f"stale: pid {pids[name]} is gone" in said(seen)
    assert real.left() == [], "nothing was started"
    assert watched.look("ChromaObserver", f"http://127.0.0.1:{free_port()}")["status"] == "unhealthy"
    real.serve()
    wait_ready(real)
    for name in KINDS:
        seen = watched.look(KINDS[name], state_dir=real.state.path)
        assert (seen["status"], seen["managed"]) == ("healthy", True)
        assert seen["pid"] != pids[name]


def test_a_polling_observer_starts_nothing_and_sees_the_orchestrator_do_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.configure(chroma={"port": "auto"})
    project.serve()
    first = project.reaches("chroma", "ready").pid
    assert first is not None
    observer = ChromaObserver(state_dir=project.state.path)
    changes: list[tuple[str, int | None]] = []
    enough = threading.Event()

    def poll() -> None:
        while not enough.wait(POLL_S):
            seen = observer.check()
            if not changes or changes[-1] != (seen.status, seen.pid):
                changes.append((seen.status, seen.pid))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        until(lambda: changes == [("healthy", first)], "the first look")
        os.kill(first, signal.SIGKILL)
        second = project.back("chroma", first).pid
        until(lambda: changes[-1] == ("healthy", second), "it to be seen again")
        assert changes[0] == ("healthy", first)
        assert {status for status, _ in changes[1:-1]} == {"unhealthy"}, changes
        project.kill_supervisor()
        assert second is not None
        os.kill(second, signal.SIGKILL)
        until(lambda: changes[-1] == ("unhealthy", None), "its end to be seen")
        seen = observer.check()
        assert (seen.status, seen.record, seen.managed) == ("unhealthy", "stale", False)
        assert project.left() == []
    finally:
        enough.set()
        thread.join()
        assert not project.close()
