"""Many small daemons: up, idle, killed one by one and all at once, stopped. Measures 1, 4, 5, 6 and 11."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from neo_daemons import records
from neo_daemons.records import SupervisorRecord

from .peers import ALL, Ours, Peer
from .results import Results
from .victims import Reports, build

SETTLE_S = 3.0
IDLE_S = 10.0
APART_S = 1.2
"""Between two kills of a victim: runit and s6 wait where a service has lived for less than a second."""
FOLLOWERS = 200
ENDURANCE = 10_000


class Fleet:
    """`n` victims under one supervisor."""

    def __init__(self, peer: Peer, n: int, victim: Path) -> None:
        self.peer, self.n, self.victim = peer, n, victim
        self.reports = Reports(peer.root / "reports")
        self.programs = {f"v{number}": [str(victim), str(self.reports.path), f"v{number}"] for number in range(n)}

    def up(self) -> float:
        """Seconds until all have started."""
        began = time.monotonic()
        self.peer.start(self.programs)
        self.reports.wait(lambda: len(self.reports.pids) == self.n, "not all came up")
        return max(report.at for report in self.reports.all) - began

    def crash(self, name: str) -> float:
        """Seconds from a SIGKILL until the next one of that name has started."""
        pid = self.reports.pids[name]
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self.reports.wait(lambda: self.reports.pids[name] != pid, f"{name} did not come back")
        return next(report.at for report in reversed(self.reports.all) if report.name == name) - began

    def crashes(self, count: int) -> list[float]:
        """`crash` of one after the other, of each as seldom as can be."""
        names, taken = list(self.programs), []
        for number in range(count):
            taken.append(self.crash(names[number % len(names)]))
            time.sleep(max(APART_S / min(len(names), 30), 0.05))
        return taken

    def storm(self) -> float:
        """Seconds from a SIGKILL to each until all have started again."""
        old = dict(self.reports.pids)
        began = time.monotonic()
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        self.reports.wait(lambda: all(self.reports.pids[name] != pid for name, pid in old.items()), "not all came back")
        return max(report.at for report in self.reports.all) - began

    def down(self) -> float:
        """Seconds until the supervisor and all of them are gone."""
        began = time.monotonic()
        self.peer.stop()
        while any(map(_runs, self.reports.pids.values())):
            if time.monotonic() - began > 60:
                raise TimeoutError("some are left")
            time.sleep(0.005)
        return time.monotonic() - began

    def idle(self, seconds: float) -> tuple[float, float]:
        """CPU in % of one core, and context switches per second."""
        pids = self.peer.own(self.victim)
        before, began = used(pids), time.monotonic()
        time.sleep(seconds)
        after, took = used(pids), time.monotonic() - began
        return 100 * (after[0] - before[0]) / took, (after[1] - before[1]) / took

    def pss(self) -> int:
        """Bytes of memory that are the supervisor's, shared ones in proportion."""
        return sum(_pss(pid) for pid in self.peer.own(self.victim))

    def close(self) -> None:
        """Leave nothing."""
        self.peer.end()
        self.reports.read()
        for report in self.reports.all:
            with contextlib.suppress(psutil.NoSuchProcess):
                left = psutil.Process(report.pid) if report.pid > 0 else None
                if left is not None and left.exe() == str(self.victim):
                    left.kill()
        self.reports.close()


@contextlib.contextmanager
def fleet(kind: type[Peer], n: int, victim: Path) -> Iterator[Fleet]:
    """One that leaves nothing."""
    root = Path(tempfile.mkdtemp(prefix=f"{kind.name}-"))
    made = Fleet(kind(root), n, victim)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)


def measure(results: Results, *, quick: bool, repeat: int, names: frozenset[str]) -> None:
    """Each peer at each size, in turns."""
    order = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        victim = build(Path(directory).resolve())
        kinds = [kind for kind in ALL if (not names or kind.name in names)]
        for kind in kinds:
            results.versions[kind.name] = kind.version() or f"absent ({kind.package})"
        kinds = [kind for kind in kinds if kind.version() is not None]
        for n in (3, 50) if quick else (3, 300, 1000):
            for number in range(1 if quick or n == 1000 else repeat):
                order.shuffle(kinds)
                for kind in kinds:
                    if n <= kind.most:
                        print(f"fleet: {kind.name}, {n} daemons, round {number + 1}", file=sys.stderr, flush=True)
                        try:
                            _one(results, kind, n, victim, quick=quick, last=number == repeat - 1)
                        except (TimeoutError, psutil.Error, OSError) as error:
                            results.faults.append(f"{kind.name}, n = {n}: {error!r}")


def _one(results: Results, kind: type[Peer], n: int, victim: Path, *, quick: bool, last: bool) -> None:
    count = 6 if quick else 12 if n == 3 else 40
    with fleet(kind, n, victim) as made:
        results.add("up", kind.name, n, made.up(), "s")
        time.sleep(SETTLE_S)
        cpu, switches = made.idle(2.0 if quick else IDLE_S)
        results.add("idle CPU", kind.name, n, cpu, "%")
        results.add("idle context switches", kind.name, n, switches, "1/s")
        results.add("memory", kind.name, n, made.pss() / 1e6, "MB")
        if kind.restarts:
            for taken in made.crashes(count):
                results.add("crash to restart", kind.name, n, taken * 1e3, "ms")
            time.sleep(APART_S)
            if n > 3:
                results.add("all killed at once", kind.name, n, made.storm(), "s")
                time.sleep(APART_S)
        if isinstance(made.peer, Ours):
            _ours(results, made, made.peer, count, endurance=last and n == 300)
        results.add("stop", kind.name, n, made.down(), "s")


def _ours(results: Results, made: Fleet, peer: Ours, count: int, *, endurance: bool) -> None:
    name, n = peer.name, made.n
    for _ in range(200):
        results.add("status", name, n, _status(peer) * 1e3, "ms")
    with _followers(peer):
        for taken in made.crashes(count):
            results.add(f"crash to restart, {FOLLOWERS} logs -f", name, n, taken * 1e3, "ms")
    time.sleep(APART_S)
    old = dict(made.reports.pids)
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)
    while not all(made.reports.pids[victim] != pid for victim, pid in old.items()):
        results.add("status while all are killed", name, n, _status(peer) * 1e3, "ms")
        made.reports.read()
    time.sleep(APART_S)
    if endurance:
        before, done = made.pss(), 0
        while done < ENDURANCE:
            made.storm()
            done += n
            time.sleep(0.7)
        time.sleep(SETTLE_S)
        results.add(f"memory after {ENDURANCE} restarts", name, n, (made.pss() - before) / 1e6, "MB more")
    peer.crash()
    made.reports.read()
    time.sleep(SETTLE_S)
    results.add("idle CPU, adopted", name, n, made.idle(5.0)[0], "%")
    for taken in made.crashes(count):
        results.add("crash to restart, adopted", name, n, taken * 1e3, "ms")
    time.sleep(APART_S)


def _status(peer: Ours) -> float:
    began = time.monotonic()
    peer.client.status()
    return time.monotonic() - began


@contextlib.contextmanager
def _followers(peer: Ours) -> Iterator[None]:
    record = records.read(peer.client.state_dir.record, SupervisorRecord)
    assert record is not None
    with contextlib.ExitStack() as stack:
        for _ in range(FOLLOWERS):
            follower = stack.enter_context(socket.socket(socket.AF_UNIX))
            follower.connect(record.socket)
            follower.sendall(b"GET /v1/daemons/v0/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            follower.recv(4096)
        yield


def _runs(pid: int) -> bool:
    """Not a zombie: those of a supervisor that was killed are the init's to reap, which takes its time."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def used(pids: list[int]) -> tuple[float, int]:
    """Seconds of CPU that these processes have used, and their context switches."""
    cpu, switches = 0.0, 0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu += times.user + times.system
        for task in Path(f"/proc/{pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                lines = [line for line in task.read_text().splitlines() if "ctxt_switches" in line]
                switches += sum(int(line.split()[1]) for line in lines)
    return cpu, switches


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def slopes(results: Results) -> dict[str, float]:
    """How what ours costs grows with n: the slope of a line through the logarithms."""
    found = {}
    for what in ("up", "memory", "all killed at once", "stop", "status", "crash to restart"):
        sizes = results.sizes(what, Ours.name)
        costs = [results.median(what, Ours.name, n) for n in sizes]
        if len(sizes) > 1 and min(costs) > 0:
            found[what] = statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, costs))).slope
    return found
