"""What the controller of pytest-xdist sends to its workers, and what these send back."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from neo_daemons import procfs

KEY = "neo_daemons"
MAIN = "main"
"""What a process is called that is no worker."""


class SharedSession(Struct, frozen=True, kw_only=True):
    """The controller's session, for a worker to join."""

    machine: str
    """Where the controller runs; see `machine`."""
    state_dir: str
    names: tuple[str, ...]
    """Of the daemons."""
    attached: bool
    """It is the one of a ``serve``."""
    journal_from: int
    """Byte at which the run begins in the journal."""

    @property
    def is_reachable(self) -> bool:
        """Whether its socket and its files are open to this process. The files alone do not tell: a directory can be
        shared over the network, and a socket cannot."""
        with contextlib.suppress(OSError):
            return self.machine == machine() and Path(self.state_dir).is_dir()
        return False


def machine() -> str:
    """Where processes see each other: this boot of a kernel, and one of its pid namespaces."""
    try:
        return f"{procfs.boot_id()} {os.readlink('/proc/self/ns/pid')}"
    except (procfs.ProcfsUnavailable, OSError):
        return platform.node()


def worker_id(config: pytest.Config) -> str | None:
    """The name of this worker; None in any other process."""
    workerinput = _input(config)
    return str(workerinput["workerid"]) if workerinput is not None else None


def is_one_of_several(config: pytest.Config) -> bool:
    """Whether other workers run tests at the same time."""
    workerinput = _input(config)
    return workerinput is not None and workerinput["workercount"] > 1


def send_session(node: Any, session: SharedSession) -> None:
    """Controller: tell a worker where the daemons are."""
    node.workerinput[KEY] = msgspec.to_builtins(session)


def received_session(config: pytest.Config) -> SharedSession | None:
    """Worker: what the controller has sent; None in any other process, and where the controller has no session."""
    workerinput = _input(config)
    sent = workerinput.get(KEY) if workerinput is not None else None
    return msgspec.convert(sent, SharedSession) if sent is not None else None


def send_remarks(config: pytest.Config, lines: Iterable[str]) -> None:
    """Worker: have the controller show these lines in its summary. Does nothing in any other process."""
    workeroutput: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput[KEY] = list(lines)


def received_remarks(node: Any) -> list[str]:
    """Controller: what a worker has sent; nothing if it crashed."""
    remarks: list[str] = getattr(node, "workeroutput", {}).get(KEY, [])
    return remarks


def _input(config: pytest.Config) -> dict[str, Any] | None:
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    return workerinput
