"""A suite of 200 short tests over the real three, by our plugin and by what else there is. Measure 9, and of 8 how soon
a fixture is there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import random
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


def measure(results: Results, *, quick: bool, repeat: int) -> None:
    """Each contender with each number of workers, in turns."""
    order = random.Random(1)
    contenders = []
    for who, (_, distribution) in CONTENDERS.items():
        if distribution is not None:
            try:
                results.versions[who] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                results.versions[who] = f"absent (PyPI: {distribution})"
                continue
        contenders.append(who)
    with tempfile.TemporaryDirectory(prefix="suite-") as directory:
        root = Path(directory).resolve()
        scripts = _prepare(root)
        for number in range(1 if quick else 5 * repeat):
            order.shuffle(contenders)
            for who in contenders:
                print(f"suite: {who}, first fixture, round {number + 1}", file=sys.stderr, flush=True)
                try:
                    _first(results, root, who)
                    if who in (OURS, "file lock"):
                        _attach(results, root, who)
                except subprocess.CalledProcessError:
                    results.faults.append(f"first fixture of {who}: {_last_line(root)}")
        for number in range(repeat):
            for workers in (2,) if quick else (1, 2, 4, 8):
                order.shuffle(contenders)
                for who in contenders:
                    print(f"suite: {who}, -n {workers}, round {number + 1}", file=sys.stderr, flush=True)
                    _one(results, root, who, workers, scripts)


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


def _first(results: Results, root: Path, who: str) -> None:
    with _project(root, who, "first") as (project, command), (root / "output").open("wb") as output:
        began = time.monotonic()
        subprocess.run([*command, "-p", "no:xdist"], cwd=project, check=True, stdout=output, stderr=output)
        at = float((project / "ready").read_text())
    results.add("chroma's fixture there, cold", who, 1, at - began, "s")


def _attach(results: Results, root: Path, who: str) -> None:
    with _project(root, who, "attach") as (project, command), (root / "output").open("wb") as output:
        distributed = [*command, "--tx", "2*popen", "--dist", "each"]
        subprocess.run(distributed, cwd=project, check=True, stdout=output, stderr=output)
        results.add("fixture there in a further worker", who, 2, 1e3 * float((project / "took").read_text()), "ms")


def _one(results: Results, root: Path, who: str, workers: int, scripts: dict[str, str]) -> None:
    with _project(root, who, "all_three") as (project, command), (root / "output").open("wb") as output:
        try:
            with _counting(scripts) as seen:
                began = time.monotonic()
                run = subprocess.run(
                    [*command, "-n", str(workers)],
                    cwd=project, check=False, stdout=output, stderr=output, timeout=TIMEOUT_S,
                )  # fmt: skip
                took = time.monotonic() - began
        except subprocess.TimeoutExpired:
            results.faults.append(f"suite of {who}, -n {workers}: not done after {TIMEOUT_S:g} s")
            return
    left = [process for process in seen if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    if run.returncode == 0:
        results.add("suite of 200 tests, by workers", who, workers, took, "s")
    else:
        results.faults.append(f"suite of {who}, -n {workers}: not green: {_last_line(root)}")
    results.add("suite: daemons started", who, workers, len(seen), "")
    results.add("suite: daemons left behind", who, workers, len(left), "")


def _last_line(root: Path) -> str:
    return "".join((root / "output").read_text(errors="replace").strip().splitlines()[-1:])


@contextlib.contextmanager
def _counting(scripts: dict[str, str]) -> Iterator[set[psutil.Process]]:
    """Watch the process table for processes of the daemons; those that there were."""
    seen: set[psutil.Process] = set()
    ended = threading.Event()
    wanted = set(scripts.values())
    own = os.getpid()

    def look() -> None:
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if pid != own and wanted & set(process.cmdline()[:2]):
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
