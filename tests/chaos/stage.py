"""The project that is struck: its configuration, its supervisors one after the other, and what is put off."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from neo_daemons.control.client import ControlError, Unreachable
from neo_daemons.status import DaemonStatus
from tests.harness import Project, toy

from .bystander import Bystander
from .clients import Clients
from .watch import PROGRAMS, processes, resume

T = TypeVar("T")
PATIENCE_S = 240.0
"""For what takes seconds, on a machine that others use as well: only a hang is meant to reach it."""
PROVISIONING_S = 600.0
POLL_S = 0.1
ALREADY_RUNNING = 4
RESTART = {"base_s": 0.1, "ceiling_s": 2.0, "stable_s": 0.0, "limit": 100_000, "window_s": 1.0, "kills": 100_000}
"""However often a daemon is struck, it is no reason to park it."""


def configuration(number: int = 0) -> dict[str, dict[str, Any]]:
    """The three real daemons, a plain worker with a child, and a client that requires it, all on ports of their own.
    `number` makes a difference to the worker: an odd one to its limits, each pair of them to its environment."""
    quick = {"type": "http", "timeout_s": 3.0, "interval_s": 1.0, "failures": 3}
    position = {
        "type": "file",
        "path": "${data_dir}/wake-daemon/lastSyncId",
        "database": "${data_dir}/memory-core-graph.sqlite",
        "query": "SELECT MAX(log_id) FROM GraphLog",
        "within_s": 15.0,
        "interval_s": 2.0,
        "failures": 2,
    }
    tables: dict[str, dict[str, Any]] = {
        "chroma": {"port": "auto", "live": {**quick, "path": "/api/v2/heartbeat"}},
        "mlx": {"port": "auto", "live": {**quick, "path": "/health", "body": '"ok"', "timeout_s": 5.0}},
        "bridge": {"live": position},
        "worker": toy(
            "child",
            "flood=20000",
            live=quick,
            env={"NUMBER": str(number // 2)},
            log={"max_bytes": 65536 + 4096 * (number % 2), "keep": 2},
        ),
        "client": toy("quiet", requires=["worker"]),
    }
    return {name: {**table, "restart": RESTART} for name, table in tables.items()}


class Stage:
    """One project under chaos.

    Args:
        root: its directory, which must be there.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        (root / "project").mkdir()
        self.project = Project(root / "project")
        self.state = self.project.state
        self.client = self.project.client
        self.rng = rng
        self.bystander = Bystander(root / "signals")
        self.clients = Clients(self.project, rng)
        self.counts: Counter[str] = Counter()
        """Of faults, by their kind."""
        self.broken: list[str] = []
        self.held: set[str] = set()
        self.revision = 0
        self.lives = 0
        self.all: list[subprocess.Popen[str]] = []
        self.supervisor: subprocess.Popen[str] | None = None
        self.ports: set[int] = set()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self.configure()

    # Supervisors

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """A `serve` that may or may not come to supervise."""
        process = self.project.serve(*arguments, wait=False)
        self.all.append(process)
        return process

    def start(self) -> None:
        """The next supervisor, until it answers."""
        self.settle(self.spawn())

    def settle(self, *candidates: subprocess.Popen[str]) -> None:
        """Wait until one of these supervises and the others have ended, as they should: refused."""

        def look() -> subprocess.Popen[str] | None:
            if all(candidate.poll() is not None for candidate in candidates):
                raise AssertionError(f"no supervisor came up: {[c.returncode for c in candidates]}; {self.output()}")
            living = [candidate for candidate in candidates if candidate.poll() is None]
            with contextlib.suppress(ControlError):
                pid = self.client.status().supervisor.pid
                return next((c for c in living if c.pid == pid and len(living) == 1), None)
            return None

        self.supervisor = wait_for(look, "an answer of the supervisor")
        self.lives += 1
        for candidate in candidates:
            if candidate is not self.supervisor and candidate.returncode != ALREADY_RUNNING:
                self.broken.append(f"a second supervisor ended with {candidate.returncode}: {self.output()}")

    def kill(self) -> None:
        """SIGKILL the supervisor; its daemons live on."""
        assert self.supervisor is not None
        self.supervisor.kill()
        self.supervisor.wait()
        self.supervisor = None

    def output(self) -> str:
        """The end of what the latest of them printed."""
        return self.project.output()[-2000:]

    def check_supervisor(self) -> None:
        """It ends only when it is told to."""
        if self.supervisor is not None and self.supervisor.poll() is not None:
            self.broken.append(f"the supervisor ended by itself, with {self.supervisor.returncode}: {self.output()}")
            self.start()

    # Daemons

    def configure(self) -> None:
        """Write the configuration of this revision."""
        self.project.configure(**configuration(self.revision))

    def signal(self, name: str, signum: int, *, child: bool = False) -> bool:
        """Strike a process of a daemon, as long as it is that: the one it was spawned as, or a descendant. Whether
        there was one."""
        found = sorted(processes(self.state, name), key=lambda seen: seen.process.pid)
        chosen = found[1:] if child else found[:1]
        if chosen:
            self.rng.choice(chosen).process.signal(signum)
        for seen in found:
            seen.process.close()
        return bool(chosen)

    def order(self, name: str, order: str) -> None:
        """Through the client, or the command line; without waiting for the outcome. A refusal is an answer."""
        if self.rng.random() < 0.3:
            done = self.project.run(order, name, "--wait", "0", timeout_s=PATIENCE_S)
            if done.returncode not in (0, 1):
                self.broken.append(f"{order} {name} ended with {done.returncode}: {done.stderr}")
            return
        try:
            self.client.order(name, order)  # type: ignore[arg-type]
        except Unreachable as error:
            self.broken.append(f"{order} {name}: {error}")
        except ControlError as error:
            if "is not responding" in str(error):
                self.broken.append(f"{order} {name}: {error}")

    def daemons(self) -> dict[str, DaemonStatus]:
        found = {daemon.name: daemon for daemon in self.client.status().daemons}
        self.ports.update(port for daemon in found.values() for port in daemon.ports.values())
        return found

    # Time

    def later(self, delay_s: float, act: Callable[[], object]) -> None:
        """Do something when the chaos has gone on for so long; at the latest when it calms down."""
        heapq.heappush(self._later, (time.monotonic() + delay_s, next(self._order), act))

    def catch_up(self, *, everything: bool = False) -> None:
        """Do what is due."""
        while self._later and (everything or self._later[0][0] <= time.monotonic()):
            heapq.heappop(self._later)[2]()

    def calm(self, timeout_s: float = PATIENCE_S) -> dict[str, DaemonStatus]:
        """Undo what was done, and wait until all daemons are ready; they must be, without further help."""
        self.catch_up(everything=True)
        self.clients.close()
        resume(self.state)
        for name in PROGRAMS:
            self.client.order(name, "release")
            self.client.order(name, "start")
        self.held.clear()

        def ready() -> dict[str, DaemonStatus] | None:
            self.check_supervisor()
            found = self.daemons()
            return found if all(daemon.ready for daemon in found.values()) else None

        return wait_for(ready, "all daemons to be ready", timeout_s, lambda: f"{self.daemons()}")

    def stop(self) -> None:
        """`down`: it returns when all is gone."""
        assert self.supervisor is not None
        done = self.project.run("down", timeout_s=PATIENCE_S)
        code = self.supervisor.wait(PATIENCE_S)
        self.supervisor = None
        if done.returncode or code:
            self.broken.append(f"down ended with {done.returncode} and the supervisor with {code}: {done.stderr}")

    def close(self) -> None:
        """End whatever is left, for all that was found."""
        self.clients.close()
        for process in self.all:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
        self.project.close()
        self.bystander.close()


def wait_for(
    look: Callable[[], T | None], what: str, timeout_s: float = PATIENCE_S, explain: Callable[[], str] = lambda: ""
) -> T:
    """As `harness.until`, with a longer patience and an explanation of what is there instead."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"never came: {what}; {explain()}"
        time.sleep(POLL_S)
    return found
