"""What is to be reached, against what was measured: ratios to a peer in the same run wherever there is one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from .command import BASE
from .demand import IDLE, NOTHING
from .fleet import ADOPTED, REPLACED, growth
from .plugin import WITHOUT
from .results import OURS, Results

GRACE_S = 10.0
"""That a daemon has by default to stop."""
BARE = "bare"
FLOOR = "Popen and poll"
SUITE, STARTED = "suite of 200 tests, by workers", "suite: daemons started"


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

    def least(what: str, n: int, who: str = OURS) -> float:
        """What else the machine does can only add to a time."""
        return min(results.samples.get((what, who, n), [math.nan]))

    def ratio(what: str, n: int, peer: str) -> float:
        return median(what, n) / (median(what, n, peer) or math.nan)

    crash = "crash to restart"
    for n, limit in ((3, 1.2), (300, 1.3), (1000, 1.6)):
        title = f"{crash}, n = {n}"
        yield Goal(1, f"{title}: median to runit's", limit, ratio(crash, n, "runit"))
        yield Goal(1, f"{title}: p95 to runit's", 2, tail(crash, n) / tail(crash, n, who="runit"))
        yield Goal(1, f"{title}: adopted to child", 1.3, median(ADOPTED, n) / median(REPLACED, n))
    for n in (3, 300):
        faster = 1 / ratio(crash, n, "supervisord")
        yield Goal(1, f"{crash}, n = {n}: times faster than supervisord", 100, faster, at_least=True)
    yield Goal(2, "chroma: crash to ready, to its bare start", 1.05, ratio("chroma: crash to ready", 1, BARE))
    yield Goal(3, "serve to all ready, to bare starts in parallel", 1.10, ratio("serve to all ready", 3, BARE))
    yield Goal(4, "300 up, to s6", 1.0, ratio("up", 300, "s6"))
    yield Goal(4, "1,000 up, to s6", 1.2, ratio("up", 1000, "s6"))
    yield Goal(4, "1,000 killed at once, all back, to s6", 1.2, ratio("all killed at once", 1000, "s6"))
    yield Goal(4, "1,000 killed at once: status, p99", 100, tail("status while all are killed", 1000, 0.99), "ms")
    for n in (300, 1000):
        yield Goal(4, f"{n:,} stopped, to runit", 1.0, ratio("stop", n, "runit"))
    yield Goal(4, "1,000 stopped, within one grace", GRACE_S, median("stop", 1000), "s")
    for n, limit in ((3, 0.0), (300, 0.05), (1000, 0.1)):
        for adopted in ("", ", adopted"):
            found = median(f"idle CPU{adopted}", n)
            # 0.0 % is one of a single decimal: an event loop that wakes once in a second takes some of it.
            found = found if limit or math.isnan(found) else round(found, 1)
            yield Goal(5, f"idle, n = {n}: CPU{adopted}", limit, found, "%")
    for n in (3, 300):
        yield Goal(5, f"idle, n = {n}: context switches", 1, median("idle context switches", n), "1/s")
    probing = median("idle CPU, the real three with their probes", 3)
    yield Goal(5, "idle, the real three with their probes: CPU", 0.3, probing, "%")
    yield Goal(2, "chroma: needed to ready, to its bare start", 1.05, ratio("chroma: needed to ready", 1, BARE))
    for number, what, limit, unit in ((5, "CPU", 0.05, "%"), (6, "memory", 1.0, "MB")):
        more = median(f"{what} of the supervisor, {IDLE}", 3) - median(f"{what} of the supervisor, {NOTHING}", 3)
        yield Goal(number, f"three idle daemons on demand: {what}, more than with none", limit, more, unit)
    further = (median("memory", 1000) - median("memory", 3)) / 997
    yield Goal(6, "memory, n = 3, to supervisord", 1.25, ratio("memory", 3, "supervisord"))
    yield Goal(6, "memory of each further daemon", 20, 1e3 * further, "kB")
    yield Goal(6, "memory after 10,000 restarts", 1, median("memory after 10000 restarts", 300), "MB more")
    for n in results.sizes("flood: lines lost", OURS) or [0]:
        yield Goal(7, "flood: lines lost", 0, tail("flood: lines lost", n, 1), "")
        yield Goal(7, "flood: disk, to its bound", 1.1, median("flood: most on the disk while supervised", n))
        yield Goal(7, "flood: the daemon's time, to a bare file", 1.05, ratio("flood: the daemon took", n, BARE))
    unused, each = "pytest, the plugin unused: CPU time", "pytest, each of 2,000 tests: wall time"
    yield Goal(8, "installed and unused: CPU time", 3, least(unused, 1) - least(unused, 1, WITHOUT), "ms")
    yield Goal(8, "per test when active", 25, least(each, 2000) - least(each, 2000, WITHOUT), "us")
    yield Goal(8, "first fixture ready, cold, to Popen and poll", 1.08, ratio("chroma's fixture there, cold", 1, FLOOR))
    yield Goal(8, "fixture in a further worker", 20, median("fixture there in a further worker", 2), "ms")
    warm = "pytest, a warm daemon: wall time"
    yield Goal(8, "warm second run, more than one without", 40, median(warm, 1) - median(warm, 1, WITHOUT), "ms")
    for n in results.sizes(SUITE, OURS) or [1, 2, 4, 8]:
        green = [who for what, who, size in results.samples if (what, size) == (SUITE, n) and who != OURS]
        fastest = min((median(SUITE, n, who) for who in green if _always_green(results, who, n)), default=math.nan)
        yield Goal(9, f"suite, -n {n}: daemons started", 3, tail(STARTED, n, 1), "")
        yield Goal(9, f"suite, -n {n}: time, to the fastest green peer", 0.95, median(SUITE, n) / fastest)
    yield Goal(10, "dead at start to error, in every worker", 50, tail("pytest, dead at start to error", 4, 1), "ms")
    for n, limit in ((300, 8), (1000, 25)):
        yield Goal(11, f"status, n = {n}: p99", limit, tail("status", n, 0.99), "ms")
    followed = median(f"{crash}, 200 logs -f", 300)
    yield Goal(11, "crash to restart with 200 logs -f, to without", 1.2, followed / median(crash, 300))
    for what, limit in (("up", 1.1), ("all killed at once", 1.1), ("status", 1.1), (crash, 0.1)):
        yield Goal(12, f"growth of {what} with n, exponent", limit, growth(results, what), "")
    process = ratio("status, as a whole process", 3, BASE)
    yield Goal(13, "a status command as a whole process, to python -c", 1.5, process)
    short = "pytest, each of 2,000 short tests: CPU time"
    yield Goal(14, "2,000 short tests behind the fence, to without", 1.02, ratio(short, 2000, WITHOUT))


def _always_green(results: Results, who: str, n: int) -> bool:
    """Whether each of its runs of the suite was."""
    started, green = (results.samples.get((what, who, n), []) for what in (STARTED, SUITE))
    return len(green) >= len(started)


def table(results: Results) -> str:
    """Markdown, as docs/benchmarks.md has it."""
    lines = ["| # | measure | target | result | |", "|---|---|---|---|---|"]
    for goal in goals(results):
        found = "not measured" if math.isnan(goal.found) else f"{goal.found:.3g} {goal.unit}".strip()
        bound = f"{'≥' if goal.at_least else '≤'} {goal.limit:g} {goal.unit}".strip()
        verdict = {True: "reached", False: "**missed**", None: ""}[goal.reached]
        lines.append(f"| {goal.number} | {goal.what} | {bound} | {found} | {verdict} |")
    return "\n".join(lines)
