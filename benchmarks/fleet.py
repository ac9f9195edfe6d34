"""Many small daemons: up, idle, killed one by one and all at once, stopped. Measures 1, 4, 5, 6, 11 and 12."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from neo_daemons import ControlError, records
from neo_daemons.records import SupervisorRecord

from .peers import ALL, Ours, Peer
from .results import OURS, Results
from .victims import PATIENCE_S, Reports, build

SIZES, QUICK_SIZES = (3, 300, 1000), (3, 30)
QUICK = ("neo-daemons", "runit", "s6")
"""Who is measured by a quick run that names nobody."""
SETTLE_S = 3.0
IDLE_S = 8.0
APART_S = 1.2
"""Between two kills of a victim: runit and s6 wait where a service has lived for less than a second."""
CRASHES_S = 10.0
"""So long, at most, are victims of a fleet killed one by one: a few peers take a second for each."""
LEAST = 5
"""Crashes, however long they take."""
STORMS = 2
STATUS_EVERY_S = 0.05
"""While all are killed."""
FOLLOWERS = 200
CPUCLOCK_SCHED = 2
"""Of Linux: the kind of clock in a clock id that `clock_getcpuclockid` makes of a pid."""
ENDURANCE, ENDURING = 10_000, 300
ADOPTED, REPLACED = "crash to restart, adopted", "crash to restart, of what replaced it"
GROWING = ("up", "all killed at once", "crash to restart", "status", "stop", "memory")


class Pace(NamedTuple):
    """How much of each is measured in a round."""

    settle_s: float
    idle_s: float
    crashes: int
    storms: int


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
        """`crash` of one after the other, of each as seldom as can be; fewer, if so many take too long."""
        names, taken = list(self.programs), []
        ends = time.monotonic() + CRASHES_S
        for number in range(count):
            if number >= LEAST and time.monotonic() > ends:
                break
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
        return sum(pss(pid) for pid in self.peer.own(self.victim))

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


def measure(results: Results, *, sizes: Sequence[int], quick: bool, repeat: int, names: frozenset[str]) -> None:
    """Measure each size as a part of its own, in which the peers take turns, always in the same order."""
    with tempfile.TemporaryDirectory() as directory:
        victim = build(Path(directory).resolve())
        names = names or frozenset(QUICK if quick else (kind.name for kind in ALL))
        kinds = [kind for kind in ALL if kind.name in names]
        for kind in kinds:
            results.versions[kind.name] = kind.version() or f"absent ({kind.package})"
        kinds = [kind for kind in kinds if kind.version() is not None]
        for n in sizes:
            with results.part(f"fleet, n = {n}", quick=quick):
                for number in range(repeat):
                    for kind in kinds:
                        if n <= kind.most:
                            print(f"fleet: {kind.name}, {n} daemons, round {number + 1}", file=sys.stderr, flush=True)
                            try:
                                _one(results, kind, n, victim, quick=quick)
                            except (TimeoutError, ControlError, psutil.Error, OSError) as error:
                                results.fault(kind.name, f"{error!r}")


def _one(results: Results, kind: type[Peer], n: int, victim: Path, *, quick: bool) -> None:
    pace = Pace(1.0, 1.0, 3, 1) if quick else Pace(SETTLE_S, IDLE_S, 20 if n < 30 else 60, STORMS)
    with fleet(kind, n, victim) as made:
        results.add("up", kind.name, n, made.up(), "s")
        time.sleep(pace.settle_s)
        cpu, switches = made.idle(pace.idle_s)
        results.add("idle CPU", kind.name, n, cpu, "%")
        results.add("idle context switches", kind.name, n, switches, "1/s")
        results.add("memory", kind.name, n, made.pss() / 1e6, "MB")
        if kind.restarts:
            for taken in made.crashes(pace.crashes):
                results.add("crash to restart", kind.name, n, taken * 1e3, "ms")
            time.sleep(APART_S)
            if n > 3:
                for _ in range(pace.storms):
                    results.add("all killed at once", kind.name, n, made.storm(), "s")
                    time.sleep(APART_S)
        if isinstance(made.peer, Ours):
            _ours(results, made, made.peer, pace)
        results.add("stop", kind.name, n, made.down(), "s")


def _ours(results: Results, made: Fleet, peer: Ours, pace: Pace) -> None:
    name, n = peer.name, made.n
    for _ in range(200):
        results.add("status", name, n, _status(peer) * 1e3, "ms")
    with _followers(peer):
        for taken in made.crashes(pace.crashes):
            results.add(f"crash to restart, {FOLLOWERS} logs -f", name, n, taken * 1e3, "ms")
    time.sleep(APART_S)
    if n > 3:
        for _ in range(pace.storms):
            _asked_in_a_storm(results, made, peer)
            time.sleep(APART_S)
    pairs = pace.crashes // 2
    for done in range(0, pairs, n):  # what has crashed is adopted no more
        peer.crash()
        made.reports.read()
        time.sleep(pace.settle_s)
        if not done:
            results.add("idle CPU, adopted", name, n, made.idle(pace.idle_s)[0], "%")
        for what in (ADOPTED, REPLACED):  # the same ones
            for taken in made.crashes(min(pairs - done, n)):
                results.add(what, name, n, taken * 1e3, "ms")
            time.sleep(APART_S)


def _asked_in_a_storm(results: Results, made: Fleet, peer: Ours) -> None:
    """Kill all, and ask for the status at fixed times until all are back."""
    old = dict(made.reports.pids)
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    while not all(made.reports.pids[victim] != pid for victim, pid in old.items()):
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError("not all came back")
        took = _status(peer)
        for waited in waits(took, STATUS_EVERY_S):
            results.add("status while all are killed", peer.name, made.n, waited * 1e3, "ms")
        time.sleep(-took % STATUS_EVERY_S)
        made.reports.read()


def waits(took: float, every: float) -> list[float]:
    """How long a request waited, and those that would have been sent meanwhile.

    So one long silence counts as all the requests that it would have kept waiting.
    """
    return [took - number * every for number in range(max(math.ceil(took / every), 1))]


def endure(results: Results, *, quick: bool, repeat: int) -> None:
    """Measure what ours keeps of many restarts."""
    n, restarts = (30, 90) if quick else (ENDURING, ENDURANCE)
    with tempfile.TemporaryDirectory() as directory, results.part("endurance", quick=quick):
        victim = build(Path(directory).resolve())
        for number in range(repeat):
            print(f"endurance: round {number + 1}", file=sys.stderr, flush=True)
            with fleet(Ours, n, victim) as made:
                made.up()
                made.storm()  # the first one fills what is filled once
                time.sleep(SETTLE_S)
                before, done = made.pss(), 0
                while done < restarts:
                    made.storm()
                    done += n
                    time.sleep(0.7)
                time.sleep(SETTLE_S)
                results.add(f"memory after {restarts} restarts", OURS, n, (made.pss() - before) / 1e6, "MB more")
                made.down()


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
    """Seconds of CPU that these processes have used, and their context switches.

    The clock of a process counts nanoseconds, and the threads that have ended; `/proc` counts hundredths of a second.
    """
    cpu, switches = 0.0, 0
    for pid in pids:
        with contextlib.suppress(OSError):
            cpu += time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
        for task in Path(f"/proc/{pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                lines = [line for line in task.read_text().splitlines() if "ctxt_switches" in line]
                switches += sum(int(line.split()[1]) for line in lines)
    return cpu, switches


def pss(pid: int) -> int:
    """Bytes of memory that are a process's, shared ones in proportion."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def growth(results: Results, what: str, who: str = OURS) -> float:
    """The power of n with which a cost grows between the two largest fleets; NaN if there were no two above 3.

    At 3 it is the supervisor's own start that is measured, and would hide what grows.
    """
    sizes = [n for n in results.sizes(what, who) if n > 3][-2:]
    costs = [results.median(what, who, n) for n in sizes]
    if len(sizes) < 2 or min(costs) <= 0:
        return math.nan
    return math.log(costs[1] / costs[0]) / math.log(sizes[1] / sizes[0])


def growths(results: Results) -> str:
    """Markdown: `growth` of each cost, of each who was measured."""
    everyone = dict.fromkeys(who for what, who, _ in results.samples if what in GROWING)
    found = {(what, who): growth(results, what, who) for what in GROWING for who in everyone}
    shown = [who for who in everyone if not all(math.isnan(found[what, who]) for what in GROWING)]
    if not shown:
        return ""
    lines = [f"| cost | {' | '.join(shown)} |", "|---|" + "---|" * len(shown)]
    for what in GROWING:
        cells = [found[what, who] for who in shown]
        lines.append(f"| {what} | {' | '.join('' if math.isnan(cell) else f'{cell:.2f}' for cell in cells)} |")
    return "\n".join(lines)
