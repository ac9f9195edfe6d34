"""A real chroma in a cluster, used by many tests through a tunnel that breaks."""

from __future__ import annotations

import functools
import itertools
import math
import random
import subprocess
import time

import pytest

from tests.harness import Project, until

from .cluster import Cluster
from .inner import LIVE, Inner, results

pytestmark = [pytest.mark.real, pytest.mark.long]

BREAKS = {"kill": 4, "lose": 4, "hang": 1}
"""Each restart is waited for twice as long as the one before; a tunnel that hangs gets its grace period."""
TESTS = {how: 6 * (breaks + 1) for how, breaks in BREAKS.items()}
"""A few between one break and the next."""


def flights(inner: Inner) -> list[tuple[str, float, float]]:
    """The tests with the times at which each began and ended, in seconds since the epoch."""
    lines = [line.split() for path in inner.root.glob("flights-*") for line in path.read_text().splitlines()]
    return [(name, float(began), float(ended)) for name, began, ended in lines]


def has_gone_on(inner: Inner, run: subprocess.Popen[str], done: int) -> bool:
    """Whether tests have passed since `done` of them had, or the run has ended."""
    return run.poll() is not None or len(flights(inner)) > done + 4


@pytest.mark.parametrize("how", ["kill", "lose", "hang"])
def test_only_tests_in_flight_are_lost_with_a_tunnel(inner: Inner, project: Project, how: str) -> None:
    inner.configure(chroma={"live": {"path": "/api/v2/heartbeat", **LIVE}})
    cluster = Cluster(inner)
    project.serve()
    project.reaches("chroma", "ready")
    cluster.has({"chroma": {"8000": project.daemon("chroma").ports["main"]}}, ignores_term=True)
    inner.env |= {"FLIGHTS": str(inner.root), "TESTS": str(TESTS[how])}
    inner.copy("through_tunnel.py", "test_small.py")
    run = inner.popen("--neo-daemons-engine=kubernetes", "-n", "2")
    breaks: list[float] = []
    while len(breaks) < BREAKS[how] and run.poll() is None:
        until(functools.partial(has_gone_on, inner, run, len(flights(inner))), "tests through a new tunnel")
        time.sleep(random.uniform(0, 0.2))
        if cluster.tunnels():
            breaks.append(time.time())
            getattr(cluster, how)()
    outcome = inner.end(run)
    found = results(outcome)
    assert len(found) == TESTS[how], outcome.text
    lost = {name for name, result in found.items() if result != "passed"}
    times = {name: (began, ended) for name, began, ended in flights(inner)}
    # A test that begins after a break and before it is noticed, within milliseconds, is in flight as well.
    broken = list(itertools.zip_longest(breaks, cluster.started_at()[1:], fillvalue=math.inf))
    in_flight = {
        name for name, (began, ended) in times.items() if any(began <= new and old <= ended for old, new in broken)
    }
    assert lost <= in_flight, outcome.text
    assert cluster.tunnels() == []
    assert inner.left() == []
