"""What `serve` tells a service manager, by sd_notify(3). The test is the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neo_daemons.definitions import Definition
from neo_daemons.environment import OF_SERVICE_MANAGER, inherited
from neo_daemons.service_manager import MORE_TIME_S, REPORT_S, START_S, ServiceManager
from neo_daemons.supervision.broadcast import Changes
from neo_daemons.supervision.machine import State

from .harness import FAST, PATIENCE_S, Project, toy, until
from .virtual import VirtualLoop

BROKEN = "[daemons.api]\nport = 3\n"


class Listener:
    """The socket of a service manager, and all that it has heard."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(PATIENCE_S)
        self.heard: list[dict[str, str]] = []

    def hear(self) -> dict[str, str]:
        """The next message, by variable."""
        lines = self._socket.recv(65536).decode().split("\n")
        self.heard.append(dict(line.split("=", 1) for line in lines))
        return self.heard[-1]

    def until(self, variable: str, value: str | None = None) -> dict[str, str]:
        """The next message that sets a variable, to this value."""
        while True:
            message = self.hear()
            if variable in message and value in (None, message[variable]):
                return message

    def rest(self) -> list[dict[str, str]]:
        """What is left to hear, now that the sender has ended."""
        self._socket.setblocking(False)
        before = len(self.heard)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.hear()
        return self.heard[before:]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path, project: Project) -> Iterator[Listener]:
    """A service manager that has started the supervisors of `project`."""
    name = f"@neo-daemons-test-{os.getpid()}-{time.monotonic_ns()}"
    listener = Listener(name)
    project.env["NOTIFY_SOCKET"] = name
    yield listener
    listener.close()


def test_serve_is_ready_once_its_daemons_are(project: Project, listener: Listener) -> None:
    beacon = project.root / "beacon"
    project.configure(slow=toy(ready={"type": "file", "path": str(beacon)}), api=toy())
    project.serve()
    first = listener.until("STATUS")
    assert first["EXTEND_TIMEOUT_USEC"] == f"{MORE_TIME_S * 1e6:.0f}"
    project.reaches("api", "ready")
    listener.until("STATUS", "ready: 1; running: slow")
    assert not any("READY" in message for message in listener.heard)
    beacon.touch()
    ready = listener.until("READY")
    assert ready == {"READY": "1", "STATUS": "ready: 2"}
    assert project.daemon("slow").ready
    project.stop()
    assert {"STOPPING": "1"}.items() <= listener.rest()[0].items()


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"ready": {"type": "file", "path": "/nowhere"}, "restart": {"when": "never"}, "command": ["false"]},
        {"command": ["false"], "restart": FAST},
        {"command": ["/nowhere/program"]},
        {"ready": {"type": "file", "path": "/nowhere"}, "start_grace_s": 0.2, "restart": FAST},
    ],
    ids=["never restarted", "exits", "missing", "never ready"],
)
def test_a_daemon_that_cannot_become_ready_does_not_delay_readiness_for_good(
    project: Project, listener: Listener, settings: dict[str, object]
) -> None:
    project.configure(broken={**toy(), **settings}, api=toy())
    project.serve()
    assert "broken" in listener.until("READY")["STATUS"]


def test_a_stop_by_request_is_no_failure_even_before_readiness(project: Project, listener: Listener) -> None:
    project.configure(slow=toy(ready={"type": "file", "path": "/nowhere"}))
    project.serve()
    assert project.run("down").returncode == 0
    listener.rest()
    told = [line for message in listener.heard for line in message if line in ("READY", "STOPPING")]
    assert told == ["READY", "STOPPING"]  # systemd would start again what exits before it was ready


def test_a_supervisor_that_fails_is_never_called_ready(project: Project, listener: Listener) -> None:
    project.configure(
        api=toy(restart={"when": "never"}, command=["false"]), slow=toy(ready={"type": "file", "path": "/nowhere"})
    )
    supervisor = project.serve("--require", "api", wait=False)
    assert supervisor.wait(PATIENCE_S) == 5
    listener.rest()
    assert any("STOPPING" in message for message in listener.heard)
    assert not any("READY" in message for message in listener.heard)


def test_a_supervisor_without_anything_to_start_is_ready(project: Project, listener: Listener) -> None:
    project.configure(lazy=toy(start="on-demand"), off=toy(enabled=False))
    project.serve()
    assert listener.until("READY")["STATUS"] == "ready: 0; idle: lazy; stopped: off"


def test_status_names_what_is_wrong(project: Project, listener: Listener) -> None:
    project.configure(api=toy())
    project.serve()
    listener.until("READY")
    project.client.order("api", "stop", wait_s=PATIENCE_S)
    listener.until("STATUS", "ready: 0; stopped: api")


def test_a_reload_is_announced_and_concluded(project: Project, listener: Listener) -> None:
    project.configure(api=toy())
    supervisor = project.serve()
    listener.until("READY")
    before_us = time.monotonic_ns() // 1000
    project.configure(api=toy(), other=toy("quiet"))
    supervisor.send_signal(signal.SIGHUP)
    reloading = listener.until("RELOADING", "1")
    assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    listener.until("READY", "1")
    assert {daemon.name for daemon in project.client.status().daemons} == {"api", "other"}


def test_a_refused_reload_is_concluded_too(project: Project, listener: Listener) -> None:
    project.configure(api=toy())
    project.serve()
    listener.until("READY")
    (project.root / "neo-daemons.toml").write_text(BROKEN)
    assert project.run("reload").returncode == 1
    listener.until("RELOADING", "1")
    listener.until("READY", "1")


def test_a_dry_run_of_a_reload_is_not_announced(project: Project, listener: Listener) -> None:
    project.configure(api=toy())
    project.serve()
    listener.until("READY")
    assert project.run("reload", "--dry-run").returncode == 0
    project.stop()
    assert not any("RELOADING" in message for message in listener.rest())


def test_the_watchdog_hears_from_the_event_loop(project: Project, listener: Listener) -> None:
    project.env |= {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": ""}
    project.configure(api=toy("quiet"))
    project.serve()
    for _ in range(3):
        listener.until("WATCHDOG", "1")


def test_a_watchdog_of_another_process_hears_nothing(project: Project, listener: Listener) -> None:
    project.env |= {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    project.configure(api=toy("quiet"))
    project.serve()
    listener.until("READY")
    project.stop()
    listener.rest()
    assert not any("WATCHDOG" in message for message in listener.heard)


def test_daemons_get_none_of_the_variables(project: Project, listener: Listener) -> None:
    project.env |= {"WATCHDOG_USEC": "60000000"}
    project.configure(api=toy("quiet"))
    project.serve()
    pid = project.reaches("api", "ready").pid
    with open(f"/proc/{pid}/environ", "rb") as file:
        names = {entry.partition(b"=")[0].decode() for entry in file.read().split(b"\0")}
    assert "PATH" in names
    assert not names & set(OF_SERVICE_MANAGER)


def test_a_supervisor_in_the_background_does_not_speak_for_the_service_that_started_it(
    project: Project, listener: Listener
) -> None:
    project.configure(api=toy("quiet"))
    assert project.run("up").returncode == 0
    assert project.run("down").returncode == 0
    assert listener.rest() == []


def test_an_embedded_supervisor_keeps_the_variables_of_its_program_from_its_daemons() -> None:
    assert inherited(dict.fromkeys(OF_SERVICE_MANAGER, "1") | {"A": "1"}).keys() == {"A", "PATH", "PYTHONUNBUFFERED"}


def test_a_socket_in_the_file_system(project: Project) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a path that is short enough for an address
        listener = Listener(f"{directory}/notify")
        project.env["NOTIFY_SOCKET"] = listener.name
        project.configure(api=toy("quiet"))
        project.serve()
        listener.until("READY")
        listener.close()


@pytest.mark.long
@pytest.mark.parametrize("name", ["/nowhere/notify", "vsock:2:1234", "@", "/" + "long" * 50, "/\udc80"])
def test_a_socket_that_cannot_be_used_is_reported_in_the_status(project: Project, name: str) -> None:
    project.env["NOTIFY_SOCKET"] = name
    project.configure(api=toy("quiet"))
    project.serve()
    project.reaches("api", "ready")
    warning = until(lambda: project.client.status().supervisor.warning, "a warning")
    assert "cannot report to the service manager at NOTIFY_SOCKET=" in warning


def test_a_service_manager_that_is_behind_holds_up_nothing_and_misses_nothing(
    project: Project, listener: Listener
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
        other.setblocking(False)
        while True:
            other.sendto(b"STATUS=other", "\0" + listener.name[1:])
    project.configure(api=toy())
    project.serve()
    project.reaches("api", "ready")
    assert project.client.status().supervisor.warning is None
    assert listener.until("READY")["STATUS"] == "ready: 1"


def test_a_daemon_that_never_has_an_outcome_does_not_delay_readiness_for_good(listener: Listener) -> None:
    daemon = SimpleNamespace(
        name="api",
        ready=False,
        state=State.RUNNING,
        situation=SimpleNamespace(detail=None),
        definition=Definition(name="api"),
    )
    supervisor: Any = SimpleNamespace(daemons={"api": daemon}, is_settled=lambda daemon: False, changed=Changes())

    async def serve() -> None:
        manager = ServiceManager(listener.name)
        manager.begin(supervisor)
        await asyncio.sleep(START_S - 1.0)
        assert not any("READY" in message for message in listener.rest())
        assert "EXTEND_TIMEOUT_USEC" in listener.heard[-1]
        await asyncio.sleep(2 * REPORT_S)
        await manager.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(serve())
    assert {"READY": "1"} in listener.rest()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_as_the_environment_says(environ: dict[str, str], watchdog_s: float | None) -> None:
    environ |= {"NOTIFY_SOCKET": "/run/notify", "OTHER": "kept"}
    manager = ServiceManager.take(environ)
    assert manager.watchdog_s == watchdog_s
    assert environ == {"OTHER": "kept"}
