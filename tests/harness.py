"""A project directory of its own for each test, with the command line and the client to go with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from neo_daemons.control.client import Client, ControlError
from neo_daemons.state_dir import StateDir
from neo_daemons.status import DaemonStatus
from neo_daemons.supervision.platform import PLATFORM_VARIABLE, Mark, current_platform, platform_choice

PROGRAMS = Path(__file__).with_name("programs")
"""Programs that tests execute."""
TOY = [sys.executable, "-IS", str(Path(__file__).with_name("toy.py"))]
PATIENCE_S = 60.0
"""For what should come in milliseconds: only a hang is meant to reach it."""
FAST = {"base_s": 0.01, "ceiling_s": 0.05, "jitter": 0.0}
"""Settings of `restart` for a daemon that comes back at once."""
TELLS_EXITS_OF_OTHERS = platform_choice()[0] in ("linux", "darwin", "kqueue")
"""Whether the platform tells how a process exited that is not our child, even if its parent reaps it at once."""
T = TypeVar("T")


def environment() -> dict[str, str]:
    """Our environment without what says where things are. A platform that is forced on the tests is forced on what they
    run."""
    return {k: v for k, v in os.environ.items() if k == PLATFORM_VARIABLE or not k.startswith(("NEO_", "PYTEST_"))}


class Child(subprocess.Popen[Any]):
    """A process that does not outlive its `with` block when that fails: `Popen` would wait for its end."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def until(look: Callable[[], T | None], what: str) -> T:
    """The first result of `look` that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_namespace(script: str) -> tuple[str, ...]:
    """A prefix that runs a command in mount and user namespaces of its own, after a script."""
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f'{script}; exec "$@"', "sh")


def toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


READY = {"type": "http", "timeout_s": 2.0}


def toy(*behaviour: str, **settings: Any) -> dict[str, Any]:
    """The table of a toy daemon with a port and an HTTP readiness probe, unless it is quiet."""
    if "quiet" in behaviour:
        table: dict[str, Any] = {
            "command": [*TOY, *behaviour],
            "ready": {"type": "log", "pattern": "quiet and ready"},
        }
    else:
        table = {"command": [*TOY, "port=${port}", *behaviour], "port": "auto", "ready": READY}
    return {**table, "stop": {"grace_s": 5.0}, **settings}


class Project:
    """A directory with a configuration, supervised by `serve` processes that end with the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = StateDir(root / ".neo-daemons")
        self.client = Client(self.state)
        self.env = environment()
        self.env["NEO_DAEMONS_REGISTRY"] = str(root / "registry")
        self._supervisors: list[subprocess.Popen[str]] = []

    def configure(self, **daemons: dict[str, Any]) -> None:
        lines = []
        for name, table in daemons.items():
            lines.append(f"[daemons.{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
        (self.root / "neo-daemons.toml").write_text("\n".join(lines) + "\n")

    def run(
        self, *arguments: str, timeout_s: float = PATIENCE_S, prefix: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*prefix, sys.executable, "-m", "neo_daemons", *arguments],
            cwd=self.root,
            env=self.env,
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def serve(self, *arguments: str, wait: bool = True, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start a supervisor in the foreground of a process of its own, and wait until it answers."""
        output = (self.root / f"serve-{len(self._supervisors)}.out").open("w+")
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "neo_daemons", "serve", *arguments],
            cwd=self.root,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        self._supervisors.append(process)
        if wait:

            def answers() -> bool:
                assert process.poll() is None, f"serve ended: {self.output()}"
                with contextlib.suppress(ControlError):
                    return self.client.status().supervisor.pid == process.pid or bool(prefix)
                return False

            until(answers, "an answer of the supervisor")
        return process

    def output(self) -> str:
        """What the latest supervisor printed."""
        return (self.root / f"serve-{len(self._supervisors) - 1}.out").read_text()

    def daemon(self, name: str) -> DaemonStatus:
        return self.client.status().daemon(name)

    def reaches(self, name: str, *states: str) -> DaemonStatus:
        """Wait for a daemon to be in one of these states."""

        def look() -> DaemonStatus | None:
            daemon = self.daemon(name)
            return daemon if daemon.state in states else None

        try:
            return until(look, f"{name} to be {' or '.join(states)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.daemon(name)}; {self.events(name)}") from None

    def back(self, name: str, old_pid: int | None) -> DaemonStatus:
        """Wait for a daemon to be ready with another pid."""

        def look() -> DaemonStatus | None:
            daemon = self.daemon(name)
            return daemon if daemon.ready and daemon.pid != old_pid else None

        return until(look, f"{name} to be back")

    def events(self, name: str | None = None) -> list[tuple[str, str | None]]:
        return [(entry.event, entry.detail) for entry in self.client.events(500, name)]

    def stop(self) -> None:
        """Stop the latest supervisor by SIGTERM and see it end well."""
        supervisor = self._supervisors[-1]
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(PATIENCE_S) == 0, self.output()

    def kill_supervisor(self) -> None:
        """SIGKILL the latest supervisor; its daemons live on."""
        self._supervisors[-1].kill()
        self._supervisors[-1].wait()

    def left(self) -> list[int]:
        """The processes that bear this project's mark."""
        return [pid for pid, mark in marked() if mark.state_dir.startswith(str(self.root))]

    def close(self) -> list[int]:
        """End everything; what had been left although no supervisor was."""
        for supervisor in self._supervisors:
            if supervisor.poll() is None:
                supervisor.terminate()
                try:
                    supervisor.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    supervisor.kill()
                    supervisor.wait()
        left = self.left()
        end_marked(str(self.root))
        return left


def marked() -> Iterator[tuple[int, Mark]]:
    for process, mark in current_platform().marked(lambda mark: True):
        process.close()
        yield process.pid, mark


def end_marked(root: str) -> None:
    """End what bears a mark of a state directory below `root`."""
    platform = current_platform()
    for process, _ in platform.marked(lambda mark: mark.state_dir.startswith(root)):
        process.signal(signal.SIGKILL)
        process.close()


def kill(pid: int | None, signum: int = signal.SIGKILL) -> None:
    """Send a signal to a process that a status names."""
    assert pid is not None
    os.kill(pid, signum)
