"""A daemon that writes faster than anybody reads, while its supervisor is killed and started again. Measure 7."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .fleet import fleet
from .peers import Ours, Programs
from .results import OURS, Results
from .victims import Reports, build

MEGABYTES, RATE = 400, 100
LINE = 100
BARE = "bare"


class _Loud(Ours):
    """With logs of so many bytes."""

    log: str = ""

    def configure(self, programs: Programs) -> list[str]:
        lines = [f"[daemons.{name}]\ncommand = {json.dumps(list(command))}\n" for name, command in programs.items()]
        (self.root / "neo-daemons.toml").write_text("".join(f"{line}log = {self.log}\n" for line in lines))
        return list(self.command())


class _Kept(_Loud):
    log = "{ max_bytes = 50000000, keep = 100 }"


class _Bounded(_Loud):
    log = "{ max_bytes = 10000000, keep = 2 }"


BOUND = (2 + 1 + 1) * 2 * 10_000_000
"""Of the bounded log, as documented: two files are kept, one is written and one just being copied, each smaller than
twice ``max_bytes``."""


def measure(results: Results, *, quick: bool, repeat: int) -> None:
    """In turns: into a file without anybody, into a log that keeps all, into one that is bounded."""
    megabytes = 100 if quick else MEGABYTES
    with tempfile.TemporaryDirectory() as directory, results.part("flood", quick=quick):
        victim = build(Path(directory).resolve())
        for _ in range(repeat):
            results.add("flood: the daemon took", BARE, megabytes, _bare(victim, Path(directory), megabytes), "s")
            for kind in (_Kept, _Bounded):
                print(f"flood: {kind.log}", file=sys.stderr, flush=True)
                _one(results, kind, victim, megabytes)


def _one(results: Results, kind: type[_Loud], victim: Path, megabytes: int) -> None:
    with fleet(kind, 1, victim) as made:
        peer = made.peer
        assert isinstance(peer, Ours)
        made.programs["v0"] += ["flood", str(megabytes), str(RATE)]
        made.up()
        began = made.reports.all[0].at
        logs = peer.root / "state" / "logs"
        supervised, crashed = 0, False
        while not any(report.pid == 0 for report in made.reports.all):
            if not crashed and time.monotonic() - began > megabytes / RATE / 2:
                crashed = True
                peer.crash()
                while _size(logs) > BOUND and not any(report.pid == 0 for report in made.reports.all):
                    made.reports.read()
                    time.sleep(0.01)
            supervised = max(supervised, _size(logs))
            made.reports.read()
            time.sleep(0.01)
        results.add("flood: the daemon took", OURS, megabytes, made.reports.all[-1].at - began, "s")
        time.sleep(2)
        if kind is _Kept:
            results.add("flood: lines lost", OURS, megabytes, megabytes * 1e6 / LINE - _numbered(logs), "lines")
        else:
            results.add("flood: most on the disk while supervised", OURS, megabytes, supervised / BOUND, "of the bound")
            results.add("flood: on the disk afterwards", OURS, megabytes, _size(logs) / BOUND, "of the bound")
        made.down()


def _bare(victim: Path, directory: Path, megabytes: int) -> float:
    reports = Reports(directory / f"reports-{time.monotonic_ns()}")
    path = directory / "bare.log"
    with path.open("wb") as output:
        process = subprocess.Popen(
            [str(victim), str(reports.path), "v0", "flood", str(megabytes), str(RATE)], stdout=output
        )
        try:
            reports.wait(lambda: any(report.pid == 0 for report in reports.all), "the flood does not end")
        finally:
            process.terminate()
            process.wait()
            reports.close()
            path.unlink()
    return reports.all[-1].at - reports.all[0].at


def _numbered(logs: Path) -> int:
    """How many of the lines are there, each once. One may begin in a file and end in the next newer one: what is cut
    off the front of a log is a whole number of the file system's blocks."""
    kept = sorted(logs.glob("v0.log.*"), key=lambda path: int(path.suffix[1:]), reverse=True)
    seen: set[int] = set()
    rest = b""
    for path in (*kept, logs / "v0.log"):
        *lines, rest = (rest + path.read_bytes()).split(b"\n")
        seen.update(int(line[:11]) for line in lines if line[:11].isdigit() and len(line) == LINE - 1)
    return len(seen)


def _size(logs: Path) -> int:
    total = 0
    for path in logs.glob("v0.log*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
