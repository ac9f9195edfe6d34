"""A fixed few hostile inputs for each target of `tests.fuzz`; ``python -m tests.fuzz --minutes N`` tries others."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import hypothesis
import pytest

from neo_daemons.definitions import Log
from neo_daemons.supervision.logs import DaemonLog

from .fuzz.targets import TARGETS, TRIED

FEW = hypothesis.settings(
    max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_is_survived(tmp_path: Path, name: str) -> None:
    with TARGETS[name](tmp_path) as fuzz:
        FEW(fuzz)()
    assert TRIED[name] >= 20


def test_a_line_of_ten_megabytes_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_bytes(b"x" * 10_000_000 + b"\n" + b"\xff" * 10_000_000)
    tracemalloc.start()
    try:
        lines = DaemonLog(path, Log()).tail(10_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(lines) == 1
    assert peak < 40_000_000
