"""What is to be reached, against what was measured: ratios to a peer in the same run wherever there is one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from .results import OURS, Results

GRACE_S = 10.0
"""That a daemon has by default to stop."""
BARE = "bare"
FLOOR = "Popen and poll"


class Goal(NamedTuple):
    """One figure."""

    number: int
    """Of the measure."""
    what: str
    limit: float
    found: float
    """NaN: not measured in this run, or not its peer."""
    unit: str = "×"
    at_least: bool = False
    """Whether `limit` is the least, or the most, that reaches it."""

    @property
    def reached(self) -> bool | None:
        """None if it was not measured."""
        if math.isnan(self.found):
            return None
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def goals(results: Results) -> Iterator[Goal]:
    """All of them, in the order of the measures."""

    def median(what: str, n: int, who: str = OURS) -> float:
        return results.median(what, who, n) if (what, who, n) in results.samples else math.nan

    def tail(what: str, n: int, share: float = 0.95, who: str = OURS) -> float:
        return results.quantile(what, who, n, share) if (what, who, n) in results.samples else math.nan

    def ratio(what: str, n: int, peer: str) -> float:
        return median(what, n) / (median(what, n, peer) or math.nan)

    crash = "crash to restart"
    for n in (3, 300):
        title = f"{crash}, n = {n}"
        yield Goal(1, f"{title}: median to runit's", 1.5, ratio(crash, n, "runit"))
        yield Goal(1, f"{title}: p95 to runit's", 3, tail(crash, n) / tail(crash, n, who="runit"))
        yield Goal(1, f"{title}: adopted to child", 2, median(f"{crash}, adopted", n) / median(crash, n))
        yield Goal(1, f"{title}: times faster than supervisord", 100, 1 / ratio(crash, n, "supervisord"), at_least=True)
    yield Goal(2, "chroma: crash to ready, to its bare start", 1.05, ratio("chroma: crash to ready", 1, BARE))
    yield Goal(3, "serve to all ready, to bare starts in parallel", 1.10, ratio("serve to all ready", 3, BARE))
    yield Goal(4, "300 up, to s6", 1.5, ratio("up", 300, "s6"))
    yield Goal(4, "1,000 killed at once, all back", 10, median("all killed at once", 1000), "s")
    yield Goal(4, "1,000 killed at once: status, p99", 50, tail("status while all are killed", 1000, 0.99), "ms")
    yield Goal(4, "1,000 stopped, within one grace", GRACE_S, median("stop", 1000), "s")
    for n in (3, 300):
        yield Goal(5, f"idle, n = {n}: CPU", 0.05, median("idle CPU", n), "%")
        yield Goal(5, f"idle, n = {n}: context switches", 1, median("idle context switches", n), "1/s")
    probing = median("idle CPU, the real three with their probes", 3)
    yield Goal(5, "idle, the real three with their probes: CPU", 0.3, probing, "%")
    further = (median("memory", 1000) - median("memory", 3)) / 997
    yield Goal(6, "memory, n = 3", 40, median("memory", 3), "MB")
    yield Goal(6, "memory of each further daemon", 20, 1e3 * further, "kB")
    yield Goal(6, "memory after 10,000 restarts", 1, median("memory after 10000 restarts", 300), "MB more")
    for n in results.sizes("flood: lines lost", OURS) or [0]:
        yield Goal(7, "flood: lines lost", 0, median("flood: lines lost", n), "")
        yield Goal(7, "flood: disk, to its bound", 1, median("flood: most on the disk while supervised", n))
        yield Goal(7, "flood: the daemon's time, to a bare file", 1.05, ratio("flood: the daemon took", n, BARE))
    yield Goal(8, "installed and unused", 5, median("plugin: installed and unused", 0), "ms")
    yield Goal(8, "per test when active", 100, median("plugin: per test, switched on", 2000), "us")
    yield Goal(8, "first fixture ready, to Popen and poll", 1.10, ratio("chroma's fixture there, cold", 1, FLOOR))
    yield Goal(8, "fixture in a further worker", 20, median("fixture there in a further worker", 2), "ms")
    yield Goal(8, "warm second run", 50, median("plugin: warm run, more than one without", 1), "ms")
    suite = "suite of 200 tests, by workers"
    for n in results.sizes(suite, OURS) or [1]:
        green = [who for what, who, size in results.samples if (what, size) == (suite, n) and who != OURS]
        fastest = min((median(suite, n, who) for who in green), default=math.nan)
        yield Goal(9, f"suite, -n {n}: daemons started", 3, tail("suite: daemons started", n, 1), "")
        yield Goal(9, f"suite, -n {n}: time, to the fastest green peer", 1, median(suite, n) / fastest)
    yield Goal(10, "dead at start to error, in every worker", 300, tail("plugin: dead at start to error", 4, 1), "ms")
    yield Goal(11, "status, n = 300: p99", 20, tail("status", 300, 0.99), "ms")
    followed = median(f"{crash}, 200 logs -f", 300)
    yield Goal(11, "crash to restart with 200 logs -f, to without", 1.2, followed / median(crash, 300))


def table(results: Results) -> str:
    """Markdown."""
    lines = ["| # | measure | to reach | found | |", "|---|---|---|---|---|"]
    for goal in goals(results):
        found = "not measured" if math.isnan(goal.found) else f"{goal.found:.3g} {goal.unit}".strip()
        bound = f"{'≥' if goal.at_least else '≤'} {goal.limit:g} {goal.unit}".strip()
        verdict = {True: "reached", False: "**missed**", None: ""}[goal.reached]
        lines.append(f"| {goal.number} | {goal.what} | {bound} | {found} | {verdict} |")
    return "\n".join(lines)
