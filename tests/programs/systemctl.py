"""Stands in for systemctl: writes down its calls, fails as told, and runs one unit as far as its text says how."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(__file__).parent
"""The directory that it is copied to."""
ENVIRONMENT = ("HOME", "PATH", "LANG")


def units() -> Path:
    stated = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(stated if stated.startswith("/") else f"{os.environ['HOME']}/.config") / "systemd/user"


def pid() -> int | None:
    """The process of the unit, if it is alive."""
    try:
        found = int((HOME / "pid").read_text())
        state = Path(f"/proc/{found}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else found


def start(unit: str) -> int:
    if pid() is not None:
        return 0
    values: dict[str, list[str]] = {}
    for line in (units() / unit).read_text().splitlines():
        key, _, value = line.partition("=")
        values.setdefault(key, []).append(value)
    program, *arguments = shlex.split(values["ExecStart"][0])
    given = dict(shlex.split(value)[0].split("=", 1) for value in values["Environment"])
    name = f"@{HOME}"[:100]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, (HOME / "journal").open("a") as journal:
        listener.bind("\0" + name[1:])
        listener.settimeout(0.1)
        process = subprocess.Popen(
            [program.removeprefix(":"), *arguments],
            cwd=values["WorkingDirectory"][0],
            env={key: os.environ[key] for key in ENVIRONMENT if key in os.environ} | given | {"NOTIFY_SOCKET": name},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
        )
        (HOME / "pid").write_text(str(process.pid))
        while process.poll() is None:
            try:
                if b"READY=1" in listener.recv(65536):
                    return 0
            except TimeoutError:
                continue
    return 1


def stop() -> None:
    found = pid()
    if found is not None:
        os.kill(found, signal.SIGTERM)
        while pid() is not None:
            time.sleep(0.01)


def main(arguments: list[str]) -> int:
    with (HOME / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    words = [argument for argument in arguments if not argument.startswith("--")]
    order, unit = words[0], words[-1]
    told = json.loads((HOME / "told").read_text())
    if order in told:
        print(told[order], file=sys.stderr)
        return 1
    link = units() / "default.target.wants" / unit
    match order:
        case "enable":
            link.parent.mkdir(exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(units() / unit)
        case "start" | "restart":
            if order == "restart":
                stop()
            return start(unit)
        case "is-active":
            return 0 if pid() is not None else 3
        case "is-failed":
            return 1
        case "disable":
            link.unlink(missing_ok=True)
            if link.parent.is_dir() and not list(link.parent.iterdir()):
                link.parent.rmdir()
            stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
