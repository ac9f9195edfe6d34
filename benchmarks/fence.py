"""What the fence costs a suite of many short tests, and a test that waits for a process: pairs of runs, one behind the
fence and one without, in turns."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from neo_daemons.registry import VARIABLE, Entry, Registered, Registration

from .plugin import CLOCK, TESTS, WITHOUT, run
from .results import OURS, Results

SHORT = f"""
import json, pytest
@pytest.mark.parametrize('n', range({TESTS}))
def test_many(n, tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps(list(range(n % 100))))
    assert sum(json.loads(path.read_text())) == sum(range(n % 100))
"""
"""Tests that do little, but write and read a file, as tests do."""
WHAT = "pytest, each of 2,000 short tests"
WAIT_S = 2
WAITING = f"""
import subprocess
def test_many_seconds():
    subprocess.run(["sleep", "{WAIT_S}"], check=True)
"""
"""A test that does nothing but have a child process."""
BESIDE = "pytest, each second beside a process"


def measure(results: Results, *, pairs: int) -> None:
    """Measure 14: with a registered supervisor of three daemons, and no process but that of the tests. And, without a
    goal, with one."""
    with tempfile.TemporaryDirectory() as name, results.part("fence", quick=pairs == 1):
        directory = Path(name).resolve()
        before, os.environ[VARIABLE] = os.environ.get(VARIABLE), str(directory / "registry")
        registration = Registration()
        try:
            registration.write(_production(directory / "production"))
            (directory / "test_many.py").write_text(SHORT)
            (directory / "test_beside.py").write_text(WAITING)
            (directory / "conftest.py").write_text(CLOCK)
            for number in range(1 + pairs):
                for who, setting in ((OURS, "true"), (WITHOUT, "false")):
                    many, beside = (
                        _cpu_s(directory, "-o", f"neo_daemons_fence={setting}", file)
                        for file in ("test_many.py", "test_beside.py")
                    )
                    if number:  # the first pair fills the caches
                        results.add(f"{WHAT}: CPU time", who, TESTS, 1e6 * many / TESTS, "us")
                        results.add(f"{BESIDE}: CPU time", who, 1, 1e3 * beside / WAIT_S, "ms")
        finally:
            registration.close()
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def _cpu_s(directory: Path, *arguments: str) -> float:
    run(directory, *arguments)
    _, cpu_s = json.loads((directory / "took").read_text())
    return float(cpu_s)


def _production(directory: Path) -> Entry:
    daemons = tuple(
        Registered(name=name, host="127.0.0.1", ports={"main": port}, data_dir=str(directory / "data" / name))
        for name, port in (("chroma", 8000), ("bridge", 8083), ("mlx", 11434))
    )
    return Entry(state_dir=str(directory), pid=os.getpid(), daemons=daemons)
