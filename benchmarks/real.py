"""The real three, under ours and started bare. Measures 2 and 3, and what 5 says of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from neo_daemons import Client, ControlError

from .fleet import used
from .results import OURS, Results

PATIENCE_S = 180.0
POLL_S = 0.02
NAMES = ("chroma", "bridge", "mlx")
BARE = "bare"


class Command(NamedTuple):
    """What a daemon was started with."""

    arguments: list[str]
    env: dict[str, str]
    cwd: str
    url: str | None


def measure(results: Results, *, quick: bool, repeat: int) -> None:
    """Bare and supervised starts in turns, chroma's way back from a SIGKILL, and what watching costs."""
    with tempfile.TemporaryDirectory(prefix="real-") as directory, results.part("real", quick=quick):
        root = Path(directory).resolve()
        commands: dict[str, Command] = {}
        for number in range(repeat + 1):
            print(f"real: round {number} of {repeat}", file=sys.stderr, flush=True)
            began = time.monotonic()
            with served(root) as client:
                taken = time.monotonic() - began
                commands = commands or commands_of(client)
                if number:  # the first one provisions, and fills the caches
                    results.add("serve to all ready", OURS, 3, taken, "s")
                    results.add("chroma: crash to ready", OURS, 1, _crash(client), "s")
                if number == repeat:
                    _idle(results, client, 3.0 if quick else 60.0)
            if number:
                results.add("serve to all ready", BARE, 3, bare(commands, NAMES, root), "s")
                results.add("chroma: crash to ready", BARE, 1, bare(commands, NAMES[:1], root), "s")


@contextlib.contextmanager
def served(root: Path, ready: Sequence[str] = NAMES) -> Iterator[Client]:
    """A project under `serve`, by default the three, with these daemons ready."""
    root.mkdir(exist_ok=True)
    client = Client(root / ".neo-daemons")
    command = [sys.executable, "-m", "neo_daemons", "serve"]
    with (root / "output").open("ab") as output:
        serve = subprocess.Popen(command, cwd=root, stdout=output, stderr=output)
    try:
        _until(lambda: _ready(client, *ready))
        yield client
    finally:
        serve.send_signal(signal.SIGINT)
        serve.wait(60)


def commands_of(client: Client) -> dict[str, Command]:
    """What the three were started with."""
    return {name: command_of(client, name) for name in NAMES}


def _idle(results: Results, client: Client, seconds: float) -> None:
    pid = client.status().supervisor.pid
    time.sleep(5)
    before = used([pid])
    time.sleep(seconds)
    after = used([pid])
    results.add("idle CPU, the real three with their probes", OURS, 3, 100 * (after[0] - before[0]) / seconds, "%")
    results.add("idle context switches, the same", OURS, 3, (after[1] - before[1]) / seconds, "1/s")


def _crash(client: Client) -> float:
    pid = client.status().daemon("chroma").pid
    assert pid is not None
    time.sleep(2)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _until(lambda: client.status().daemon("chroma").pid not in (pid, None) and _ready(client, "chroma"))
    return time.monotonic() - began


def bare(commands: dict[str, Command], names: tuple[str, ...], root: Path) -> float:
    """Seconds until the slowest that answers HTTP is ready; the bridge, which does not and is up long before, runs."""
    began = time.monotonic()
    with (root / "output").open("ab") as output:
        started = [
            subprocess.Popen(
                commands[name].arguments, env=commands[name].env, cwd=commands[name].cwd,
                stdout=output, stderr=output, start_new_session=True,
            )
            for name in names
        ]  # fmt: skip
    try:
        _until(lambda: all(_answers(name, commands[name].url) for name in names))
        return time.monotonic() - began
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            process.wait(60)


def _answers(name: str, url: str | None) -> bool:
    """What ours asks, too."""
    with contextlib.suppress(httpx.HTTPError):
        match name:
            case "chroma":
                return httpx.get(f"{url}/api/v2/heartbeat", timeout=2, trust_env=False).is_success
            case "mlx":
                body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
                return (
                    httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
                    and httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30, trust_env=False).is_success
                )
            case _:
                return True
    return False


def command_of(client: Client, name: str) -> Command:
    """What a running daemon was started with."""
    daemon = client.status().daemon(name)
    process = psutil.Process(daemon.pid)
    env = {key: value for key, value in process.environ().items() if not key.startswith("NEO_DAEMONS_")}
    return Command(process.cmdline(), env, process.cwd(), daemon.url)


def _ready(client: Client, *names: str) -> bool:
    try:
        status = client.status()
    except ControlError:
        return False
    return all(status.daemon(name).ready for name in names)


def _until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError("not ready")
        time.sleep(POLL_S)
