"""Puts the processes that tests start behind the fence: Python and Node.js, by variables that they inherit.

A process that refuses something writes that into a file, so that the test is told even if the process keeps silent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import marshal
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from neo_daemons import locks
from neo_daemons.unpatched import Tail, Unpatched

from .wall import Plan

HERE = Path(__file__).resolve().parent
VARIABLE = "NEO_DAEMONS_FENCE"
"""Names the directory to the processes that tests start."""
PREFIX = "pytest-neo-daemons-fence-"
FORMAT = 2
"""The format of `marshal` that all versions of Python 3 read."""


class Equipment:
    """The directory with the plan and what was refused, and the variables that lead to it."""

    def __init__(self) -> None:
        self._pid = Unpatched.getpid()
        self._directory: Path | None = None
        self._before: dict[str, tuple[str | None, str]] = {}
        """Variable → its value before, and the one that we gave it."""
        self._hits: Tail | None = None
        self._descriptor = -1
        """Of the file that `_hits` reads."""
        self._inode = -1
        self._lock = -1

    @property
    def is_on(self) -> bool:
        """Whether processes are told."""
        return self._directory is not None

    def equip(self, plan: Plan) -> None:
        """Tell processes that are started from now on what is fenced.

        Raises:
            OSError: no temporary file can be written.
        """
        if self._directory is None:
            _sweep()
            name = f"{PREFIX}{os.geteuid()}-{self._pid}-"
            self._directory = Path(tempfile.mkdtemp(prefix=name)).resolve()
            self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path = self._directory / "hits"
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._inode = os.fstat(self._descriptor).st_ino
            self._hits = Tail(path, 0)
        data = _data_of(plan)
        self._write("plan.json", json.dumps(data).encode())  # for Node.js
        self._write("plan.marshal", marshal.dumps(data, FORMAT))  # Python reads it without an import
        if not self._before:
            quoted = str(HERE / "child.cjs").replace("\\", "\\\\").replace('"', '\\"')
            self._set("NODE_OPTIONS", " ".join(filter(None, [os.environ.get("NODE_OPTIONS"), f'--require "{quoted}"'])))
            others = filter(None, [os.environ.get("PYTHONPATH")])
            self._set("PYTHONPATH", os.pathsep.join([str(HERE / "site"), *others]))
            self._set(VARIABLE, str(self._directory))

    def _write(self, name: str, data: bytes) -> None:
        assert self._directory is not None
        new = self._directory / f"{name}.new"
        new.write_bytes(data)
        new.replace(self._directory / name)

    def _set(self, variable: str, value: str) -> None:
        self._before[variable] = os.environ.get(variable), value
        os.environ[variable] = value

    def hits(self) -> list[str]:
        """Return what processes have refused since the last call."""
        if self._hits is None or not self._has_grown(self._hits.position):
            return []
        return self._hits.read().decode("utf-8", "replace").splitlines()

    def _has_grown(self, size: int) -> bool:
        """Return whether the file is not known to be as large as it was. This is called three times for each test, and
        takes a third of the time of a look at the path."""
        try:
            found = Unpatched.fstat(self._descriptor)
        except OSError:  # a test has closed all descriptors
            return True
        return found.st_size != size or found.st_ino != self._inode

    def add(self, text: str) -> None:
        """Add what the child of a fork has refused."""
        if self._directory is not None:
            with contextlib.suppress(OSError), (self._directory / "hits").open("a") as file:
                file.write(" ".join(text.split()) + "\n")

    def close(self) -> None:
        """Restore the variables, and remove the directory."""
        for variable, (before, ours) in self._before.items():
            if os.environ.get(variable) == ours:
                if before is None:
                    del os.environ[variable]
                else:
                    os.environ[variable] = before
        self._before.clear()
        if self._hits is not None:
            self._hits.close()
        if self._directory is not None and Unpatched.getpid() == self._pid:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                if os.fstat(self._descriptor).st_ino == self._inode:
                    os.close(self._descriptor)
        self._directory, self._hits, self._lock, self._descriptor = None, None, -1, -1


def _sweep() -> None:
    """Remove what runs that were killed have left. Those of another container that shares the directory have a lock."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.geteuid()}-*"):
        pid = path.name.removeprefix(PREFIX).split("-")[1]
        with contextlib.suppress(OSError):
            if not Path(f"/proc/{pid}").exists() and not locks.is_held(path):
                shutil.rmtree(path, ignore_errors=True)


def _data_of(plan: Plan) -> dict[str, Any]:
    """Return the plan as what JSON and `marshal` can hold."""
    return {
        "ports": {
            str(number): [(port.host, tuple(port.owner)) for port in ports] for number, ports in plan.ports.items()
        },
        "zones": [(zone.path, tuple(zone.owner), zone.open) for zone in plan.zones],
        "sockets": {path: tuple(owner) for path, owner in plan.sockets.items()},
        "places": list(plan.places),
    }
