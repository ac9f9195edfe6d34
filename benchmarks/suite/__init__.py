"""A suite of 200 short tests over the real three, by our plugin and by what else there is. Measure 9, and of 8 how soon
a fixture is there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.real import NAMES, commands_of, served
from benchmarks.results import OURS, Results

HERE = Path(__file__).parent
CONTENDERS = {
    OURS: ("ours", None),
    "pytest-xprocess": ("xprocess", "pytest-xprocess"),
    "mirakuru": ("mirakuru", "mirakuru"),
    "file lock": ("file_lock", None),
    "Popen and poll": ("popen", None),
}
"""Who → its conftest here, and the distribution that it needs. The file lock is the recipe of pytest-xdist's
documentation, with a count of users, so that the last one ends the daemons."""
SAMPLE_S = 0.2
TIMEOUT_S = 300.0
PORT, DATA = "@PORT@", "@DATA@"
MARK = "BENCHMARKED_SUITE"


def measure_first(results: Results, *, quick: bool, repeat: int) -> None:
    """How soon a fixture is there, with each contender, in turns."""
    with tempfile.TemporaryDirectory(prefix="suite-") as directory, results.part("first", quick=quick):
        root = Path(directory).resolve()
        contenders = _contenders(results)
        _prepare(root)
        for number in range(0 if quick else -1, repeat):  # the first one fills the caches
            for who in contenders:
                print(f"first: {who}, round {number + 1} of {repeat}", file=sys.stderr, flush=True)
                try:
                    took = _first(root, who)
                    if number >= 0:
                        results.add("chroma's fixture there, cold", who, 1, took, "s")
                        if who in (OURS, "file lock"):
                            results.add("fixture there in a further worker", who, 2, 1e3 * _attach(root, who), "ms")
                except subprocess.CalledProcessError:
                    results.fault(who, f"first fixture: {_last_line(root)}")


def measure(results: Results, *, quick: bool, repeat: int) -> None:
    """Each contender with each number of workers, in turns."""
    with tempfile.TemporaryDirectory(prefix="suite-") as directory, results.part("suite", quick=quick):
        root = Path(directory).resolve()
        contenders = _contenders(results)
        with _marked(root):
            scripts = _prepare(root)
            for number in range(repeat):
                for workers in (2,) if quick else (1, 2, 4, 8):
                    for who in contenders:
                        print(f"suite: {who}, -n {workers}, round {number + 1}", file=sys.stderr, flush=True)
                        _one(results, root, who, workers, scripts)


def _contenders(results: Results) -> list[str]:
    """Who is installed."""
    found = []
    for who, (_, distribution) in CONTENDERS.items():
        if distribution is not None:
            try:
                results.versions[who] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                results.versions[who] = f"absent (PyPI: {distribution})"
                continue
        found.append(who)
    return found


def _prepare(root: Path) -> dict[str, str]:
    """Write down how the daemons are started; the scripts by which their processes are told."""
    with served(root / "template") as client:
        commands = commands_of(client)
        data = {name: client.status().daemon(name).data_dir for name in NAMES}
        ports = {name: client.status().daemon(name).ports for name in NAMES}
    told = {}
    for name, command in commands.items():

        def generic(text: str, name: str = name) -> str:
            text = text.replace(data[name] or DATA, DATA)
            return PORT if text in map(str, ports[name].values()) else text

        told[name] = {
            "command": [generic(word) for word in command.arguments],
            "env": {key: generic(value) for key, value in command.env.items()},
        }
    shutil.copytree(data["bridge"] or "", root / "graph", ignore=shutil.ignore_patterns("wake-daemon"))
    (root / "commands.json").write_text(json.dumps(told))
    return {name: command.arguments[1] for name, command in commands.items()}


@contextlib.contextmanager
def _project(root: Path, who: str, tests: str) -> Iterator[tuple[Path, list[str]]]:
    """A project of this contender with these tests, and the command that runs them."""
    project = root / "project"
    project.mkdir()
    conftest, _ = CONTENDERS[who]
    shutil.copy(HERE / f"conftest_{conftest}.py", project / "conftest.py")
    shutil.copy(HERE / f"{tests}.py", project / f"test_{tests}.py")
    shutil.copy(HERE / "daemons.py", project)
    shutil.copy(root / "commands.json", project)
    shutil.copytree(root / "graph", project / "graph")
    command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={root / 'basetemp'}"]
    command += ["--neo-daemons"] if who == OURS else ["-p", "no:neo_daemons"]
    command += [] if who == "pytest-xprocess" else ["-p", "no:xprocess"]
    try:
        yield project, command
    finally:
        shutil.rmtree(project)


def _first(root: Path, who: str) -> float:
    """Seconds from the start of pytest to chroma's fixture."""
    with _project(root, who, "first") as (project, command), (root / "output").open("wb") as output:
        began = time.monotonic()
        subprocess.run([*command, "-p", "no:xdist"], cwd=project, check=True, stdout=output, stderr=output)
        return float((project / "ready").read_text()) - began


def _attach(root: Path, who: str) -> float:
    """Seconds from the request of a fixture that another worker has, to the fixture."""
    with _project(root, who, "attach") as (project, command), (root / "output").open("wb") as output:
        distributed = [*command, "--tx", "2*popen", "--dist", "each"]
        subprocess.run(distributed, cwd=project, check=True, stdout=output, stderr=output)
        return float((project / "took").read_text())


def _one(results: Results, root: Path, who: str, workers: int, scripts: dict[str, str]) -> None:
    with _project(root, who, "all_three") as (project, command), (root / "output").open("wb") as output:
        code = None
        with _counting(scripts) as seen, contextlib.suppress(subprocess.TimeoutExpired):
            began = time.monotonic()
            code = subprocess.run(
                [*command, "-n", str(workers)],
                cwd=project, check=False, stdout=output, stderr=output, timeout=TIMEOUT_S,
            ).returncode  # fmt: skip
            took = time.monotonic() - began
    left = [process for process in seen if _runs(process)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if code == 0:
        results.add("suite of 200 tests, by workers", who, workers, took, "s")
    elif code is None:
        results.fault(who, f"suite, -n {workers}: not done after {TIMEOUT_S:g} s")
    else:
        results.fault(who, f"suite, -n {workers}: not green: {_last_line(root)}")
    results.add("suite: daemons started", who, workers, len(seen), "")
    results.add("suite: daemons left behind", who, workers, len(left), "")


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _last_line(root: Path) -> str:
    return "".join((root / "output").read_text(errors="replace").strip().splitlines()[-1:])


@contextlib.contextmanager
def _counting(scripts: dict[str, str]) -> Iterator[set[psutil.Process]]:
    """Watch the process table for processes of this run's daemons; those that there were."""
    seen: set[psutil.Process] = set()
    ended = threading.Event()
    wanted = set(scripts.values())
    own, mark = os.getpid(), os.environ[MARK]

    def look() -> None:
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if pid != own and wanted & set(process.cmdline()[:2]) and process.environ().get(MARK) == mark:
                    seen.add(process)

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        look()


@contextlib.contextmanager
def _marked(root: Path) -> Iterator[None]:
    """Mark the environment, which the daemons of all contenders inherit: others may run the same programs."""
    os.environ[MARK] = str(root)
    try:
        yield
    finally:
        del os.environ[MARK]
