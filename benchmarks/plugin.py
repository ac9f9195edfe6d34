"""What the pytest plugin costs: pairs of runs, one with and one without, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from .cost import Cost, cpu_ms, spend
from .results import OURS, Results
from .victims import Reports, build

TESTS = 2000
OTHERS = ("cacheprovider", "hypothesispytest", "anyio", "asyncio", "xdist", "timeout", "xprocess")
"""Plugins that are left out: each takes longer than what is to be measured."""
TOY = '[daemons.api]\ncommand = ["{python}", "-m", "http.server", "--bind", "${{host}}", "${{port}}"]\nport = "auto"\n'
NO_PLUGIN = ("-p", "no:neo_daemons")
WITHOUT = "without"
MANY = f"import pytest\n@pytest.mark.parametrize('n', range({TESTS}))\ndef test_many(n): pass\n"
CLOCK = """
import json, pathlib, time
first, last = [], []
def pytest_runtest_logstart(nodeid, location):
    if not first and "test_many" in nodeid:
        first[:] = time.perf_counter(), time.process_time()
def pytest_runtest_logfinish(nodeid, location):
    if first:
        last[:] = time.perf_counter(), time.process_time()
def pytest_sessionfinish():
    took = [end - began for began, end in zip(first, last)]
    pathlib.Path(__file__).with_name("took").write_text(json.dumps(took))
"""
"""Wall and CPU time from the first of the many tests to the last, without what is before and after."""


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


def run(directory: Path, *arguments: str, count: bool = False) -> Cost:
    """What a run of pytest costs."""
    options = [f"-pno:{name}" for name in OTHERS]
    return spend([sys.executable, "-m", "pytest", "-q", *options, *arguments], directory, count=count)


def compare(
    directory: Path, pairs: int, without: list[str], with_: list[str], *, count: bool = False
) -> tuple[list[Cost], list[Cost]]:
    """Runs with and without, in turns; the first pair, which fills the caches, is left out."""
    more, less = [], []
    for number in range(1 + pairs):
        couple = run(directory, *with_, count=count), run(directory, *without, count=count)
        if number:
            more.append(couple[0])
            less.append(couple[1])
    return more, less


def measure(results: Results, *, pairs: int) -> None:
    """Measure 8 but for what `suite` measures: unused, per test, one daemon from start to end, and found warm."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_one.py").write_text("def test_one(): pass\n")
        _add(results, "pytest, the plugin unused", *compare(directory, 2 * pairs, [*NO_PLUGIN], [], count=True))
        (directory / "neo-daemons.toml").write_text(TOY.format(python=sys.executable))
        (directory / "test_daemon.py").write_text("def test_daemon(api): pass\n")
        whole = compare(directory, max(pairs // 4, 1), [*NO_PLUGIN, "test_one.py"], ["--neo-daemons", "test_daemon.py"])
        _add(results, "pytest, one daemon (http.server) from start to end", *whole)
        _add(results, "pytest, a warm daemon", *_warm(directory, pairs))
        _per_test(results, directory, max(pairs // 2, 1))


def _add(results: Results, what: str, with_: list[Cost], without: list[Cost]) -> None:
    for who, costs in ((OURS, with_), (WITHOUT, without)):
        for cost in costs:
            results.add(f"{what}: wall time", who, 1, 1e3 * cost.wall_s, "ms")
        for spent in cpu_ms(costs, without):
            results.add(f"{what}: CPU time", who, 1, spent, "ms")


def _warm(directory: Path, pairs: int) -> tuple[list[Cost], list[Cost]]:
    """Runs that find the daemon warm, and runs that need none."""
    keep = ["--neo-daemons", "--neo-daemons-keep", "10m", "test_daemon.py"]
    run(directory, *keep)
    try:
        return compare(directory, pairs, [*NO_PLUGIN, "test_one.py"], keep)
    finally:
        run(directory, *keep[:-2], "1", "test_daemon.py")  # a second later it ends


def _per_test(results: Results, directory: Path, pairs: int) -> None:
    """Take the time of many tests inside the run, after a test that uses the daemon, and without."""
    (directory / "test_many.py").write_text(MANY)
    (directory / "conftest.py").write_text(CLOCK)

    def took(*arguments: str) -> list[float]:
        run(directory, *arguments)
        told: list[float] = json.loads((directory / "took").read_text())
        return told

    for _ in range(pairs):
        for who, arguments in (
            (OURS, ["--neo-daemons", "test_daemon.py", "test_many.py"]),
            (WITHOUT, [*NO_PLUGIN, "test_one.py", "test_many.py"]),
        ):
            wall, cpu = took(*arguments)
            results.add("pytest, each of 2,000 tests: wall time", who, TESTS, 1e6 * wall / TESTS, "us")
            results.add("pytest, each of 2,000 tests: CPU time", who, TESTS, 1e6 * cpu / TESTS, "us")


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
                results.fault(OURS, f"only {len(told)} of {workers} workers told of a daemon that died")
            for at in told:
                results.add("pytest, dead at start to error", OURS, workers, 1e3 * (at - died), "ms")
            reports.close()
