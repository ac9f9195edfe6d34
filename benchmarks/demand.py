"""Daemons on demand: how soon chroma answers when it is first needed, and what costs the supervisor of idle daemons."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from neo_daemons import Client

from .fleet import pss, used
from .real import BARE, NAMES, bare, command_of, served
from .results import OURS, Results

IDLE, UP = "the real three idle on demand", "the real three up"
NOTHING = "no daemon enabled"
SETTLED_S = 5.0
WAIT_S = 120.0
ON_DEMAND = 'start = "on-demand"\nidle_stop_s = inf'


def measure(results: Results, *, quick: bool, repeat: int) -> None:
    """A need of chroma and its bare start in turns; then the memory and CPU time of supervisors that are left alone."""
    seconds = 3.0 if quick else 60.0
    with tempfile.TemporaryDirectory(prefix="demand-") as directory, results.part("demand", quick=quick):
        root = Path(directory).resolve()
        configure(root / "demand", ON_DEMAND)
        with served(root / "demand", ready=()) as client:
            _need(client)  # it may be provisioned, and fills the caches
            command = command_of(client, "chroma")
            for number in range(repeat):
                print(f"demand: round {number + 1} of {repeat}", file=sys.stderr, flush=True)
                client.order("chroma", "stop", wait_s=WAIT_S)
                results.add("chroma: needed to ready", OURS, 1, _need(client), "s")
                client.order("chroma", "stop", wait_s=WAIT_S)
                results.add("chroma: needed to ready", BARE, 1, bare({"chroma": command}, ("chroma",), root), "s")
        for what, table, ready in ((NOTHING, "enabled = false", ()), (IDLE, ON_DEMAND, ()), (UP, "", NAMES)):
            place = root / what.replace(" ", "-")
            configure(place, table)
            print(f"demand: {what}", file=sys.stderr, flush=True)
            with served(place, ready=ready) as client:
                _alone(results, what, client, seconds)


def configure(root: Path, table: str) -> None:
    """Write a project with the real three, each with these lines in its table."""
    root.mkdir()
    (root / "neo-daemons.toml").write_text("".join(f"[daemons.{name}]\n{table}\n" for name in NAMES))


def _need(client: Client) -> float:
    began = time.monotonic()
    needed = client.need("chroma", wait_s=WAIT_S)
    taken = time.monotonic() - began
    if not needed.daemon.ready:
        raise TimeoutError(f"chroma is not ready: {needed.failure}")
    return taken


def _alone(results: Results, what: str, client: Client, seconds: float) -> None:
    pid = client.status().supervisor.pid
    time.sleep(SETTLED_S)
    before = used([pid])
    time.sleep(seconds)
    after = used([pid])
    results.add(f"CPU of the supervisor, {what}", OURS, 3, 100 * (after[0] - before[0]) / seconds, "%")
    results.add(f"memory of the supervisor, {what}", OURS, 3, pss(pid) / 1e6, "MB")
