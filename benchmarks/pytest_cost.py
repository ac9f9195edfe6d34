"""What the plugin costs: ``python -m benchmarks.pytest_cost``.

Each figure is the median of pairs of runs, one with and one without, taken in turns on the same machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def compare(directory: Path, pairs: int, without: list[str], with_: list[str]) -> tuple[float, float, float]:
    """Medians of both, and of the differences of the pairs, in seconds."""
    first, second = [], []
    for _ in range(pairs):
        first.append(run(directory, *without))
        second.append(run(directory, *with_))
    differences = [b - a for a, b in zip(first, second, strict=True)]
    return statistics.median(first), statistics.median(second), statistics.median(differences)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    pairs: int = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "test_one.py").write_text("def test_one(): pass\n")
        unused = compare(directory, pairs, ["-p", "no:neo_daemons"], [])
        (directory / "test_one.py").write_text(
            f"import pytest\n@pytest.mark.parametrize('n', range({TESTS}))\ndef test_one(n): pass\n"
        )
        (directory / "neo-daemons.toml").write_text(TOY.format(python=sys.executable))
        (directory / "test_two.py").write_text("def test_two(api): pass\n")
        few = compare(directory, max(pairs // 4, 3), [], ["--neo-daemons"])
        (directory / "test_one.py").write_text("def test_one(): pass\n")
        start = compare(directory, max(pairs // 4, 3), [], ["--neo-daemons"])
    print("| what | without, s | with, s | difference |")
    print("|---|---|---|---|")
    print(f"| installed and unused | {unused[0]:.3f} | {unused[1]:.3f} | {1e3 * unused[2]:.1f} ms |")
    per_test = (few[2] - start[2]) / TESTS
    print(f"| per test, switched on ({TESTS} tests) | {few[0]:.3f} | {few[1]:.3f} | {1e6 * per_test:.0f} us |")
    print(f"| one daemon (http.server), start to end | {start[0]:.3f} | {start[1]:.3f} | {1e3 * start[2]:.0f} ms |")


if __name__ == "__main__":
    main()
