"""The control API over its socket: what it refuses, its limits, and clients that hang without doing harm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neo_daemons.control import api, openapi
from neo_daemons.control.address import MAX_PATH_BYTES, bind, socket_path
from neo_daemons.control.handlers import Handlers

from .harness import Child, Project, toy, until


def ask(project: Project, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, object]]:
    """One request, as curl would make it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(json.loads(project.state.record.read_text())["socket"])
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        with contextlib.suppress(BrokenPipeError):  # it may have heard enough
            connection.sendall(body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    status = int(answer.split()[1])
    content = answer.partition(b"\r\n\r\n")[2]
    try:
        found = json.loads(content)
    except ValueError:
        found = {}
    return status, found if isinstance(found, dict) else {"list": found}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/v1/daemons/nobody/why", b"", 404, "unknown daemon 'nobody'; configured daemons: api"),
        ("GET", "/v1/events?n=-1", b"", 400, "expected an integer"),
        ("GET", "/v1/events?n=1e9", b"", 400, "expected an integer"),
        ("GET", "/v1/events?n=99999999999999999999", b"", 400, "expected an integer"),
        ("GET", "/v1/events?follow=yes", b"", 400, "expected 0 or 1"),
        ("GET", "/v1/events?daemon=nobody", b"", 404, "unknown daemon"),
        ("POST", "/v1/daemons/api/explode", b"", 404, "unknown path '/v1/daemons/api/explode'; GET /v1/openapi.json"),
        ("POST", "/v1/daemons/api/stop", b"{", 400, "invalid request body"),
        ("POST", "/v1/daemons/api/stop", b'{"wait_s": "1"}', 400, "wait_s"),
        ("POST", "/v1/daemons/api/stop", b'{"wait_s": -1}', 400, "wait_s"),
        ("POST", "/v1/daemons/api/stop", b'{"waits": 1}', 400, "waits"),
        ("POST", "/v1/daemons/api/stop", b"\xff", 400, "invalid request body"),
        ("POST", "/v1/daemons/nobody/need", b"{}", 404, "unknown daemon"),
        ("POST", "/v1/leases", b'{"holder": "x", "needs": ["nobody"]}', 404, "unknown daemon"),
        ("POST", "/v1/daemons/api/signal", b'{"signal": "SIGKILL"}', 409, "only available in a pytest session"),
        ("POST", "/v1/daemons/api/signal", b'{"signal": "SIGTERM"}', 400, "signal"),
        ("PUT", "/v1/daemons/api", b'{"name": "api", "command": ["true"]}', 409, "only available in a pytest session"),
        ("PUT", "/v1/daemons/api", b'{"name": "other"}', 409, "'other'"),
        ("POST", "/v1/daemons/api/why", b"", 405, ""),
        ("DELETE", "/v1/daemons/api", b"", 409, "only available in a pytest session"),
        ("GET", "/v1/session", b"", 409, "only available in a pytest session"),
        ("PUT", "/v1/session", b'{"definitions": [], "keep_s": 0}', 409, "only available in a pytest session"),
        ("POST", "/v1/reload", b" " * 100_000, 400, "larger than"),
        ("POST", "/v1/leases", b"{}", 400, "holder"),
        ("POST", "/v1/leases", b'{"holder": "x", "inhibit": "nobody"}', 404, "unknown daemon"),
        ("GET", "/", b"", 404, ""),
        ("DELETE", "/v1/status", b"", 405, ""),
        ("POST", "/v1/status", b"", 405, ""),
    ],
)
def test_a_bad_request_gets_an_error_and_changes_nothing(
    shared: Project, method: str, path: str, body: bytes, status: int, said: str
) -> None:
    before = shared.daemon("api").pid
    found, answer = ask(shared, method, path, body)
    assert found == status
    assert said in str(answer.get("error", ""))
    assert shared.daemon("api").pid == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("shared"))
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    yield project
    assert project.close() == []


def test_every_handler_is_an_operation_and_every_operation_is_documented(shared: Project) -> None:
    handlers = sorted(name for name in vars(Handlers) if not name.startswith("_"))
    assert handlers == sorted(operation.handler for operation in openapi.OPERATIONS)
    paths = ask(shared, "GET", "/v1/openapi.json")[1]["paths"]
    assert isinstance(paths, dict)
    documented = [(path, method.upper()) for path, methods in paths.items() for method in methods]
    assert sorted(documented) == sorted(
        (api.route(operation.path), operation.method) for operation in openapi.OPERATIONS
    )


@pytest.mark.parametrize("order", ["start", "stop", "restart", "hold", "release"])
def test_an_order_accepts_no_other_method(shared: Project, order: str) -> None:
    assert ask(shared, "GET", f"/v1/daemons/api/{order}")[0] == 405


def test_status_is_the_documented_contract(shared: Project) -> None:
    status = json.loads(shared.run("status", "--json").stdout)
    assert {"pid", "version", "state_dir", "started_at"} <= set(status["supervisor"])
    assert set(status["daemons"][0]) >= {
        "name", "state", "ready", "pid", "url", "ports", "restarts", "uptime_s", "cpu_percent", "rss_bytes",
        "log_path", "data_dir", "last_exit", "detail",
    }  # fmt: skip
    assert status == {**ask(shared, "GET", "/v1/status")[1], "daemons": status["daemons"]}


def test_socket_and_state_are_for_this_user_only(shared: Project) -> None:
    path = Path(json.loads(shared.state.record.read_text())["socket"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.state.daemon_log("api").stat().st_mode) == 0o600


def test_clients_that_hang_or_vanish_delay_no_one(shared: Project) -> None:
    address = json.loads(shared.state.record.read_text())["socket"]
    with contextlib.ExitStack() as stay, contextlib.ExitStack() as vanish:
        for request in (b"", b"GET /v1/sta", b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"):
            for number in range(20):
                connection = (stay if number % 2 else vanish).enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(address)
                connection.sendall(request)
        assert shared.daemon("api").ready
        vanish.close()
        assert shared.daemon("api").ready
    assert shared.run("why", "api").returncode == 0


def test_a_follower_that_does_not_read_delays_no_one(project: Project) -> None:
    project.configure(api=toy("flood=100000"))
    project.serve()
    address = json.loads(project.state.record.read_text())["socket"]
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(address)
        deaf.sendall(b"GET /v1/daemons/api/logs?n=100000&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        project.reaches("api", "ready")
        assert project.run("restart", "api").returncode == 0
        project.stop()
        assert "Traceback" not in project.output()


def test_an_ipv6_host_is_in_brackets_in_the_urls_of_the_built_ins(project: Project) -> None:
    own = toy("quiet", host="::1", port="auto", live=[])
    project.configure(chroma=own, mlx=own, **{"neural-link": own})
    project.serve()
    chroma, mlx, link = (project.reaches(name, "ready") for name in ("chroma", "mlx", "neural-link"))
    assert chroma.url == chroma.env["CHROMA_URL"] == f"http://[::1]:{chroma.ports['main']}"
    assert chroma.env["CHROMA_HOST"] == "::1"
    assert mlx.env["OPENAI_BASE_URL"] == f"{mlx.url}/v1" == f"http://[::1]:{mlx.ports['main']}/v1"
    assert link.url == f"ws://[::1]:{link.ports['main']}"
    assert {change.action for change in project.client.reload()} <= {"keep"}


def test_a_lease_ends_with_its_holder(project: Project) -> None:
    live = {"type": "http", "interval_s": 0.05}
    project.configure(api=toy(live=live, max_runtime_s=0.2))
    project.serve()
    script = (
        "import sys, time; from pathlib import Path; from neo_daemons.control.client import Client\n"
        "with Client(Path(sys.argv[1])).lease('a holder', inhibit='api'):\n"
        "    print('armed', flush=True); time.sleep(600)"
    )
    with Child(
        [sys.executable, "-c", script, str(project.state.path)], stdout=subprocess.PIPE, env=project.env
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"armed\n"
        first = project.reaches("api", "ready")
        until(lambda: (project.daemon("api").uptime_s or 0) > 0.5, "an age over the limit")
        assert project.daemon("api").pid == first.pid
        holder.kill()
    project.back("api", first.pid)


@pytest.mark.parametrize("fault", [FileNotFoundError("mine"), ValueError("mine"), TimeoutError("mine")])
def test_an_error_under_a_lease_is_passed_on_to_its_user(shared: Project, fault: Exception) -> None:
    with pytest.raises(type(fault)) as raised, shared.client.lease("a user"):
        raise fault
    assert raised.value is fault


def test_a_long_state_directory_gets_a_socket_in_a_short_private_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short enough to be taken, or the user's own directory would be.
    runtime = Path(tempfile.mkdtemp(prefix="nd-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    long = tmp_path / ("x" * 200)
    path = socket_path(long)
    assert runtime in path.parents
    assert len(os.fsencode(path)) <= MAX_PATH_BYTES
    assert path != socket_path(tmp_path / ("y" * 200))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.chmod(0o777)
    assert runtime not in socket_path(long).parents  # it is private no more
    shutil.rmtree(runtime)


def test_a_project_with_a_long_path_is_served(tmp_path: Path) -> None:
    root = tmp_path / ("deep" * 30)
    root.mkdir()
    project = Project(root)
    try:
        project.configure(api=toy())
        project.serve()
        project.reaches("api", "ready")
        address = Path(json.loads(project.state.record.read_text())["socket"])
        assert root not in address.parents
        project.stop()
        assert not address.exists()
    finally:
        assert project.close() == []


def test_a_damaged_supervisor_record_is_one_clear_error(project: Project) -> None:
    project.configure(api=toy())
    project.state.create()
    project.state.record.write_text('{"format": 1, "pid": ')
    result = project.run("status")
    assert result.returncode == 3
    assert "no supervisor is running" in result.stderr
    assert "supervisor.json" in result.stderr
    assert "Traceback" not in result.stderr
    project.serve()
    project.reaches("api", "ready")


def test_nothing_is_imported_for_an_unused_entry_point() -> None:
    script = (
        "import sys, neo_daemons, pytest_neo_daemons\n"
        "heavy = {'asyncio', 'email', 'filelock', 'h11', 'httpx', 'msgspec', 'psutil', 'rich', 'ssl', 'tenacity'}\n"
        "heavy |= {'prometheus_client', 'textual'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "import neo_daemons.control.client\n"
        "print(sorted((heavy - {'msgspec', 'h11'}) & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n[]\n"


def test_whoever_sees_the_socket_can_connect(tmp_path: Path) -> None:
    """Also while a new supervisor replaces the socket of a dead one."""
    path = tmp_path / "control.sock"
    bind(path).close()
    done = threading.Event()
    refused: list[OSError] = []
    answered = 0

    def knock() -> None:
        nonlocal answered
        while not done.is_set():
            with socket.socket(socket.AF_UNIX) as connection:
                connection.setblocking(False)
                try:
                    with contextlib.suppress(BlockingIOError):  # nobody accepts: the queue is full
                        connection.connect(str(path))
                except OSError as error:
                    refused.append(error)
                else:
                    answered += 1

    with contextlib.ExitStack() as listening:
        listening.enter_context(bind(path))
        knocking = threading.Thread(target=knock)
        knocking.start()
        try:
            for _ in range(100):
                before = answered
                listening.enter_context(bind(path))
                while answered == before and not refused:
                    time.sleep(0.001)
        finally:
            done.set()
            knocking.join()
    assert not refused
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["control.sock"]
