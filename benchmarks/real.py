"""The real three, under ours and started bare. Measures 2 and 3."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from neo_daemons import Client, ControlError

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


def measure(results: Results, *, repeat: int) -> None:
    """Bare and supervised starts in turns, and chroma's way back from a SIGKILL."""
    with tempfile.TemporaryDirectory(prefix="real-") as directory:
        root = Path(directory).resolve()
        with (root / "output").open("wb") as output:
            commands: dict[str, Command] = {}
            for number in range(repeat + 1):
                print(f"real: round {number} of {repeat}", file=sys.stderr, flush=True)
                client = Client(root / ".neo-daemons")
                began = time.monotonic()
                serve = subprocess.Popen(
                    [sys.executable, "-m", "neo_daemons", "serve"], cwd=root, stdout=output, stderr=output
                )
                try:
                    _until(lambda client=client: _ready(client, *NAMES))  # type: ignore[misc]
                    taken = time.monotonic() - began
                    commands = commands or {name: _command(client, name) for name in NAMES}
                    if number:  # the first one provisions, and fills the caches
                        results.add("serve to all ready", OURS, 3, taken, "s")
                        results.add("chroma: crash to ready", OURS, 1, _crash(client), "s")
                finally:
                    serve.send_signal(signal.SIGINT)
                    serve.wait(60)
                if number:
                    results.add("serve to all ready", BARE, 3, _bare(commands, NAMES, output), "s")
                    results.add("chroma: crash to ready", BARE, 1, _bare(commands, NAMES[:1], output), "s")


def _crash(client: Client) -> float:
    pid = client.status().daemon("chroma").pid
    assert pid is not None
    time.sleep(2)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _until(lambda: client.status().daemon("chroma").pid not in (pid, None) and _ready(client, "chroma"))
    return time.monotonic() - began


def _bare(commands: dict[str, Command], names: tuple[str, ...], output: object) -> float:
    """Seconds until the slowest that answers HTTP is ready; the bridge, which does not and is up long before, runs."""
    began = time.monotonic()
    started = [
        subprocess.Popen(
            commands[name].arguments, env=commands[name].env, cwd=commands[name].cwd,
            stdout=output, stderr=output, start_new_session=True,  # type: ignore[call-overload]
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
                return httpx.get(f"{url}/api/v2/heartbeat", timeout=2).is_success
            case "mlx":
                body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
                return (
                    httpx.get(f"{url}/health", timeout=2).is_success
                    and httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).is_success
                )
            case _:
                return True
    return False


def _command(client: Client, name: str) -> Command:
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
