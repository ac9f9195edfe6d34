"""The first process of a container: go through the life of its daemons, and print what was seen, as JSON.

usage: python in_container.py PORT [PREFIX...]

The working directory is the project; PREFIX runs each command as it is to run. Only processes that this program has
started itself are reaped, which is how most programs behave that are the first of their container. It listens on PORT,
which one daemon wants.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DESCRIPTORS = 24
PATIENCE_S = 60.0
PREFIX = sys.argv[2:]


def run(*command: str) -> dict[str, Any]:
    done = subprocess.run([*PREFIX, sys.executable, "-m", *command], capture_output=True, text=True, timeout=PATIENCE_S)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def neo(*command: str) -> dict[str, Any]:
    return run("neo_daemons", *command)


def until(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            sys.exit(f"never came: {what}; {neo('status')} {neo('events')}")
        time.sleep(0.02)
    return found


def pids() -> dict[str, int]:
    """Of what is ready."""
    status = json.loads(neo("status", "--json")["out"])
    ready = {daemon["name"]: daemon["pid"] for daemon in status["daemons"] if daemon["state"] == "ready"}
    return {"supervisor": status["supervisor"]["pid"], **ready}


def back(before: dict[str, int], *names: str) -> dict[str, int]:
    def look() -> dict[str, int] | None:
        now = pids()
        return now if all(name in now and now[name] != before[name] for name in names) else None

    return until(look, f"{names} to be back")  # type: ignore[no-any-return]


def exits() -> dict[str, str]:
    """How each daemon ended at last."""
    lines = neo("events", "--json", "-n", "100")["out"].splitlines()
    return {entry["daemon"]: entry["detail"] for entry in map(json.loads, lines) if entry["event"] == "exit"}


def living() -> list[str]:
    """The commands of all processes but this one, and but those that nobody has reaped."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        command = Path(f"/proc/{number}/cmdline").read_bytes() if int(number) != os.getpid() else b""
        if command:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
        seen: dict[str, Any] = {"pid": os.getpid(), "up": neo("up")}
        first = pids()
        seen["health"] = {one["daemon"]: one["status"] for one in json.loads(neo("health", "--json")["out"])["daemons"]}
        seen["doctor"] = neo("doctor")
        os.kill(first["api"], signal.SIGKILL)
        second = back(first, "api")
        os.kill(second["supervisor"], signal.SIGKILL)
        until(lambda: neo("status")["code"] == 3, "the end of the supervisor")
        seen["health without it"] = neo("health")
        seen["adopting"] = neo("up")
        third = pids()
        seen["adopted"] = {name for name in third if third[name] == second[name]} == {"api", "clean", "failed"}
        for name, signum in (("api", signal.SIGKILL), ("clean", signal.SIGUSR1), ("failed", signal.SIGUSR2)):
            os.kill(third[name], signum)
        fourth = back(third, "api", "clean", "failed")
        seen["exits"] = exits()
        seen["restart"] = neo("restart", "clean")
        seen["restarted"] = back(fourth, "clean").keys() == fourth.keys()
        seen["events"] = neo("events", "-n", "100")["out"]
        seen["plugin"] = run("pytest", "--neo-daemons", "-q", "-pno:cacheprovider", "-pno:asyncio", "test_api.py")
        seen["down"] = neo("down")
        until(lambda: not living(), f"the end of {living()}")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
