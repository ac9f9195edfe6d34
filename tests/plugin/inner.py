"""A downstream repository in a directory of its own, and runs of pytest in it, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec import Struct

from tests.harness import PATIENCE_S, environment, is_alive, marked, toml, toy, until

WITHOUT = ("cacheprovider", "hypothesispytest", "anyio", "asyncio", "fakefs", "xprocess", "randomly", "random_order")
"""Plugins that no inner run needs: they take longer to load than it does to run, or change the order of its tests."""
SHOWN = ("CI", "BUILD_NUMBER", "COLUMNS", "FORCE_COLOR", "GITHUB_STEP_SUMMARY", "PY_COLORS", "RUST_LOG")
"""Variables by which pytest or daemons show more, or otherwise."""
LIVE = {"type": "http", "interval_s": 0.1, "timeout_s": 1.5, "failures": 2}
"""A liveness probe that ends a hung daemon soon."""


PROGRAMS = Path(__file__).parent / "programs"
"""What inner runs execute."""
PARALLEL = ("-n", "2")
MODES = pytest.mark.parametrize(
    "mode", [pytest.param((), id="alone", marks=pytest.mark.matrix), pytest.param(PARALLEL, id="n2")]
)
"""In both ways of running tests. `oldest`, which has no pytest-xdist, runs a part of them alone."""
HTTP = "import urllib.request\n\ndef get(url):\n    return urllib.request.urlopen(url, timeout=20).status\n"
OVERRIDE = """
    import msgspec, os, pathlib, pytest

    @pytest.fixture(scope="session")
    def api_definition(api_definition, tmp_path_factory):
        return msgspec.structs.replace(api_definition, env={{"COLOUR": {colour}}})
"""
"""A conftest.py that changes the definition of the daemon; to be formatted."""
COLOURED = """
    import pathlib, pytest

    @pytest.mark.parametrize("number", range(4))
    def test_api(api, number):
        assert {expected} in pathlib.Path(f"/proc/{{api.pid}}/environ").read_text().split(chr(0))
"""
"""Tests of what a daemon has in its environment; to be formatted."""


def without(names: Iterable[str] = WITHOUT) -> list[str]:
    """Options that load none of these plugins."""
    return [f"-pno:{name}" for name in names]


class Outcome(Struct, frozen=True):
    """How an inner run ended."""

    code: int
    text: str
    """Its whole output."""
    results: dict[str, str]
    """Test → passed, failed, error or skipped, as its JUnit XML says."""
    hit: dict[str, str]
    """Test → what its report says of a daemon that died meanwhile."""
    xml: str

    def counts(self) -> dict[str, int]:
        """How many tests had which result."""
        values = list(self.results.values())
        return {value: values.count(value) for value in sorted(set(values))}


class Inner:
    """The repository. Its temporary files, and with them all sessions, are under its own directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp = root / "t"
        self.tmp.mkdir()
        self.pids = root / "pids"
        self.env = {name: value for name, value in environment().items() if name not in SHOWN}
        self.env |= {
            "TMPDIR": str(self.tmp),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NEO_DAEMONS_REGISTRY": str(root / "registry"),
        }
        self.without: tuple[str, ...] = WITHOUT
        self._running: list[subprocess.Popen[str]] = []

    def configure(self, **daemons: dict[str, Any]) -> None:
        """Write neo-daemons.toml."""
        lines = []
        for name, table in daemons.items():
            lines.append(f"[daemons.{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
        (self.root / "neo-daemons.toml").write_text("\n".join(lines) + "\n")

    def toy(self, *behaviour: str, **settings: Any) -> dict[str, Any]:
        """A toy daemon whose starts are counted."""
        return toy(*behaviour, f"pidfile={self.pids}", **settings)

    def write(self, name: str, text: str) -> None:
        """Write a file of the repository."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def copy(self, program: str, name: str) -> None:
        """Make one of our programs a file of the repository."""
        (self.root / name).write_text((PROGRAMS / program).read_text())

    def loaded(self, process: str, package: str) -> set[str]:
        """The modules of a package of ours that a process of the run had loaded at its end; see `loaded.py`."""
        names = (self.root / f"loaded-{process}").read_text().splitlines()
        return {name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}.")}

    def starts(self) -> int:
        """How often toy daemons have been started."""
        return len(self.pids.read_text().split()) if self.pids.exists() else 0

    def popen(self, *arguments: str, on: bool = True) -> subprocess.Popen[str]:
        """Begin a run, in a session of its own, as of a terminal."""
        output = (self.root / f"out-{len(self._running)}").open("w+")
        options = [*without(self.without), *(["--neo-daemons"] if on else [])]
        command = [sys.executable, "-m", "pytest", *options]
        process = subprocess.Popen(
            [*command, f"--junitxml={self.root / 'result.xml'}", *arguments],
            cwd=self.root,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output.close()
        self._running.append(process)
        return process

    def output(self) -> str:
        """Of the latest run."""
        return (self.root / f"out-{len(self._running) - 1}").read_text()

    def end(self, process: subprocess.Popen[str], timeout_s: float = PATIENCE_S * 2) -> Outcome:
        """Wait for a run to end."""
        code = process.wait(timeout_s)
        results, hit, path, xml = dict[str, str](), dict[str, str](), self.root / "result.xml", ""
        if path.exists():
            xml = path.read_text()
            for case in ElementTree.fromstring(xml).iter("testcase"):
                kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
                kind = {"failure": "failed"}.get(kinds[0], kinds[0]) if kinds else "passed"
                name = f"{case.get('classname')}::{case.get('name')}"
                results[name] = kind
                for entry in case.iter("property"):
                    if entry.get("name") == "neo_daemons":
                        hit[name] = str(entry.get("value"))
            path.unlink()
        return Outcome(code, self.output(), results, hit, xml)

    def run(self, *arguments: str, on: bool = True, timeout_s: float = PATIENCE_S * 2) -> Outcome:
        """A run, to its end."""
        return self.end(self.popen(*arguments, on=on), timeout_s)

    def end_warm(self) -> None:
        """End what was kept warm."""
        for pid in self.supervisors():
            os.kill(pid, signal.SIGTERM)
        self.wait_until_nothing_is_left()

    # What is left

    def supervisors(self) -> list[int]:
        """Supervisors of sessions of this repository."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                if b"neo_daemons.ephemeral" in line and os.fsencode(self.tmp) in line and is_alive(int(name)):
                    found.append(int(name))
        return found

    def daemons(self) -> list[tuple[int, str]]:
        """Processes of daemons of this repository."""
        return [(pid, mark.name) for pid, mark in marked() if mark.state_dir.startswith(str(self.tmp))]

    def sessions(self) -> list[Path]:
        """Directories and locks of sessions. The lock of a warm one stays: others may be waiting for it."""
        paths: list[Path] = []
        for base in self.tmp.glob("neo-daemons-*"):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                paths += base.iterdir()
        return [path for path in paths if path.suffix != ".sock" and not path.match("warm-*.lock")]

    def sockets(self) -> list[Path]:
        """Control sockets outside the sessions' directories."""
        return list(self.tmp.glob("neo-daemons-*/*.sock"))

    def left(self) -> list[object]:
        """Everything that a run should not leave."""
        return [*self.supervisors(), *self.daemons(), *self.sessions(), *self.sockets()]

    def wait_until_nothing_is_left(self) -> None:
        """After a run was killed, its supervisor has to end by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self.left():
            assert time.monotonic() < deadline, f"left: {left}"
            time.sleep(0.02)

    def reaches(self, name: str) -> None:
        """Wait for a file that a test writes."""
        until(lambda: (self.root / name).exists(), f"the file {name}: {self.output()}")

    def close(self) -> None:
        """End what a failing test has left running."""
        for process in self._running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def messages(outcome: Outcome) -> dict[str, str]:
    """Test → what its report says: of a failure, an error or a skip."""
    found = {}
    for case in ElementTree.fromstring(outcome.xml).iter("testcase"):
        texts = [
            f"{child.get('message')}\n{child.text}" for child in case if child.tag in ("failure", "error", "skipped")
        ]
        found[str(case.get("name"))] = "\n".join(texts)
    return found


def results(outcome: Outcome) -> dict[str, str]:
    """Test → its result, without the module's name."""
    return {name.rpartition("::")[2]: result for name, result in outcome.results.items()}


def lines(path: Path) -> list[str]:
    """Of a file; none if it is missing."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def files(inner: Inner) -> list[str]:
    """Everything in the directories of sessions, whatever it is."""
    return [str(path) for path in inner.tmp.glob("neo-daemons-*/*")]


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def refused(inner: Inner, outcome: Outcome, words: tuple[str, ...]) -> None:
    """The run is refused, with one line of an error, and nothing is left."""
    errors = [line for line in outcome.text.splitlines() if line.startswith("ERROR")]
    assert outcome.code == pytest.ExitCode.USAGE_ERROR, outcome.text
    assert len(errors) == 1, outcome.text
    assert [word for word in words if word not in errors[0]] == []
    assert "Traceback" not in outcome.text
    assert "INTERNALERROR" not in outcome.text
    assert (inner.left(), files(inner), inner.starts()) == ([], [], 0)
