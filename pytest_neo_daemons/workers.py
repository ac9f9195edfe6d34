"""Exchanges data between the controller of pytest-xdist and its workers."""

# Without `from __future__ import annotations`: msgspec would compile each annotation anew in each process.
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from neo_daemons import processes

from .deployed import NOTHING, Deployed

KEY = "neo_daemons"
MAIN = "main"
"""The name of a process that is not a worker."""


class SharedSession(Struct, frozen=True, kw_only=True):
    """The controller's session, for a worker to join."""

    machine: str
    """Where the controller runs; see `machine`."""
    state_dir: str
    names: tuple[str, ...]
    """The names of the daemons."""
    attached: bool
    """Whether it is attached to a ``serve``."""
    journal_from: int
    """The byte at which the run begins in the journal."""
    external: tuple[str, ...] = ()
    """The URLs of external daemons."""
    deployed: Deployed = NOTHING

    @property
    def is_reachable(self) -> bool:
        """Whether this process can use its socket and its files. The files alone prove nothing: a directory can be
        shared over the network, but a socket cannot."""
        with contextlib.suppress(OSError):
            return self.machine == machine() and Path(self.state_dir).is_dir()
        return False


def machine() -> str:
    """Identify the processes that see each other: those of one boot and one pid namespace."""
    return processes.pid_space()


def worker_id(config: pytest.Config) -> str | None:
    """Return the name of this worker; None in any other process."""
    workerinput = _input(config)
    return str(workerinput["workerid"]) if workerinput is not None else None


def run_id(config: pytest.Config) -> str | None:
    """Return what identifies this run in all its workers; None in any other process."""
    workerinput = _input(config)
    return str(workerinput["testrunuid"]) if workerinput is not None else None


def is_one_of_several(config: pytest.Config) -> bool:
    """Return whether other workers run tests at the same time."""
    workerinput = _input(config)
    return workerinput is not None and workerinput["workercount"] > 1


def send_session(node: Any, session: SharedSession) -> None:
    """Controller: send the session to a worker."""
    node.workerinput[KEY] = msgspec.to_builtins(session)


def received_session(config: pytest.Config) -> SharedSession | None:
    """Worker: return the session that the controller sent; None in any other process, or if there is no session."""
    workerinput = _input(config)
    sent = workerinput.get(KEY) if workerinput is not None else None
    return msgspec.convert(sent, SharedSession) if sent is not None else None


def send_remarks(config: pytest.Config, lines: Iterable[str]) -> None:
    """Worker: make the controller show these lines in its summary. Does nothing in any other process."""
    workeroutput: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput[KEY] = list(lines)


def has_finished(node: Any) -> bool:
    """Controller: return whether a worker has run its tests to the end, and was not interrupted."""
    exitstatus = getattr(node, "workeroutput", {}).get("exitstatus", pytest.ExitCode.INTERRUPTED)
    return bool(exitstatus != pytest.ExitCode.INTERRUPTED)


def received_remarks(node: Any) -> list[str]:
    """Controller: return the lines that a worker sent; none if it crashed."""
    remarks: list[str] = getattr(node, "workeroutput", {}).get(KEY, [])
    return remarks


def _input(config: pytest.Config) -> dict[str, Any] | None:
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    return workerinput
