"""What the pytest plugin costs: pairs of runs, one with and one without, in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .results import OURS, Results

TESTS = 2000
OTHERS = ("cacheprovider", "hypothesispytest", "anyio", "asyncio", "xdist", "timeout")
"""Plugins that are left out: each takes longer than what is to be measured."""
TOY = '[daemons.api]\ncommand = ["{python}", "-m", "http.server", "--bind", "${{host}}", "${{port}}"]\nport = "auto"\n'


def run(directory: Path, *arguments: str) -> float:
    """Seconds that a run of pytest takes."""
    command = [sys.executable, "-m", "pytest", "-q", *(f"-pno:{name}" for name in OTHERS), *arguments]
    start = time.perf_counter()
    subprocess.run(command, cwd=directory, env=os.environ, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def compare(directory: Path, pairs: int, without: list[str], with_: list[str]) -> list[float]:
    """By how many seconds a run takes longer with than without, in turns."""
    return [run(directory, *with_) - run(directory, *without) for _ in range(pairs)]


def measure(results: Results, *, pairs: int) -> None:
    """Measure 8, as far as it goes: unused, per test, and one daemon from start to end."""
    few = max(pairs // 4, 3)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_one.py").write_text("def test_one(): pass\n")
        for difference in compare(directory, pairs, ["-p", "no:neo_daemons"], []):
            results.add("plugin: installed and unused", OURS, 0, 1e3 * difference, "ms")
        (directory / "neo-daemons.toml").write_text(TOY.format(python=sys.executable))
        (directory / "test_two.py").write_text("def test_two(api): pass\n")
        start = compare(directory, few, [], ["--neo-daemons"])
        (directory / "test_one.py").write_text(
            f"import pytest\n@pytest.mark.parametrize('n', range({TESTS}))\ndef test_one(n): pass\n"
        )
        many = compare(directory, few, [], ["--neo-daemons"])
        for difference in start:
            results.add("plugin: one daemon (http.server), start to end", OURS, 1, 1e3 * difference, "ms")
        per_test = (statistics.median(many) - statistics.median(start)) / TESTS
        results.add("plugin: per test, switched on", OURS, TESTS, 1e6 * per_test, "us")
