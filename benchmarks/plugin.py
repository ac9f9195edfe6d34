"""What the pytest plugin costs: pairs of runs, one with and one without, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .results import OURS, Results
from .victims import Reports, build

TESTS = 2000
OTHERS = ("cacheprovider", "hypothesispytest", "anyio", "asyncio", "xdist", "timeout", "xprocess")
"""Plugins that are left out: each takes longer than what is to be measured."""
TOY = '[daemons.api]\ncommand = ["{python}", "-m", "http.server", "--bind", "${{host}}", "${{port}}"]\nport = "auto"\n'


NEVER_READY = 'ready = { type = "log", pattern = "never" }\nrestart = "never"\n'
FAILED = """
import pathlib, time
def pytest_runtest_logreport(report):
    import os
    if report.failed and "PYTEST_XDIST_WORKER" in os.environ:
        with pathlib.Path(__file__).with_name("errors").open("a") as file:
            file.write(f"{time.monotonic()}\\n")
"""
"""In each worker: when it told."""


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
    """Measure 8 but for what `suite` measures: unused, per test, one daemon from start to end, and found warm."""
    few = max(pairs // 4, 3)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_one.py").write_text("def test_one(): pass\n")
        for difference in compare(directory, pairs, ["-p", "no:neo_daemons"], []):
            results.add("plugin: installed and unused", OURS, 0, 1e3 * difference, "ms")
        (directory / "neo-daemons.toml").write_text(TOY.format(python=sys.executable))
        (directory / "test_two.py").write_text("def test_two(api): pass\n")
        start = compare(directory, few, [], ["--neo-daemons"])
        warm = _warm(directory, few)
        (directory / "test_one.py").write_text(
            f"import pytest\n@pytest.mark.parametrize('n', range({TESTS}))\ndef test_one(n): pass\n"
        )
        many = compare(directory, few, [], ["--neo-daemons"])
        for difference in start:
            results.add("plugin: one daemon (http.server), start to end", OURS, 1, 1e3 * difference, "ms")
        for difference in warm:
            results.add("plugin: warm run, more than one without", OURS, 1, 1e3 * difference, "ms")
        per_test = (statistics.median(many) - statistics.median(start)) / TESTS
        results.add("plugin: per test, switched on", OURS, TESTS, 1e6 * per_test, "us")


def _warm(directory: Path, pairs: int) -> list[float]:
    """By how much a run takes longer that finds the daemon warm than one that needs none."""
    (directory / "test_two.py").write_text("def test_two(api): pass\n")
    keep = ["--neo-daemons", "--neo-daemons-keep", "10m", "test_two.py"]
    run(directory, *keep)
    try:
        return compare(directory, pairs, ["-p", "no:neo_daemons", "test_one.py"], keep)
    finally:
        run(directory, *keep[:-2], "1", "test_two.py")  # a second later it ends


def measure_failure(results: Results, *, repeat: int, workers: int = 4) -> None:
    """Measure 10: a daemon dies at its start, and all workers wait for it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        victim = build(directory)
        for number in range(workers):
            (directory / f"test_{number}.py").write_text("def test(api): pass\n")
        (directory / "conftest.py").write_text(FAILED)
        for number in range(repeat):
            reports, errors = Reports(directory / f"reports{number}"), directory / "errors"
            errors.write_text("")
            command = json.dumps([str(victim), str(reports.path), "api", "fail", "2"])
            (directory / "neo-daemons.toml").write_text(f"[daemons.api]\ncommand = {command}\n{NEVER_READY}")
            subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "--neo-daemons", "-n", str(workers)],
                cwd=directory,
                check=False,
                stdout=subprocess.DEVNULL,
            )
            reports.read()
            died = next(report.at for report in reversed(reports.all) if report.pid < 0)
            told = [float(line) for line in errors.read_text().split()]
            if len(told) != workers:
                results.faults.append(f"only {len(told)} of {workers} workers told of a daemon that died")
            for at in told:
                results.add("plugin: dead at start to error", OURS, workers, 1e3 * (at - died), "ms")
            reports.close()
