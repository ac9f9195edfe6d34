"""Waiting for a supervisor to go, with its daemons or without."""

from __future__ import annotations

import contextlib
import signal
import time

from neo_daemons import records
from neo_daemons.control.address import Loopback
from neo_daemons.control.client import REMADE_S, Client, ControlError, NoSupervisor
from neo_daemons.records import DamagedRecord, SupervisorRecord
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Process
from neo_daemons.supervision.presence import FoundSupervisor, find_supervisor

POLL_S = 0.02
TAKEOVER_S = 15.0
"""Letting go of daemons takes milliseconds."""


def supervisor(state: StateDir) -> FoundSupervisor | None:
    """The supervisor of a state directory, if one lives, whether or not it can be reached.

    Raises:
        ControlError: its files cannot be read.
    """
    try:
        return find_supervisor(state)
    except OSError as error:
        raise ControlError(f"cannot read {error.filename or state.path}: {error.strerror}") from None


def wait_until_released(state: StateDir, process: Process, timeout_s: float | None = None) -> bool:
    """Until a supervisor has given the state directory back, whether its process ends or goes on with something else;
    False if `timeout_s` passed first."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while process.is_alive() and _record_pid(state) == process.pid:
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def wait_until_ended(process: Process, timeout_s: float) -> bool:
    """Until the process has ended; False if `timeout_s` passed first."""
    deadline = time.monotonic() + timeout_s
    while process.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(process: Process, grace_s: float) -> None:
    """End a process with SIGTERM and, after `grace_s` seconds, with SIGKILL. Wait as long for each."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        process.signal(signum)
        process.signal(signal.SIGCONT)  # one that is stopped takes a signal only then
        if wait_until_ended(process, grace_s):
            return


def _record_pid(state: StateDir) -> int | None:
    with contextlib.suppress(DamagedRecord, OSError):
        record = records.read(state.record, SupervisorRecord)
        return record.pid if record is not None else None
    return None


def take_over(state: StateDir, listen: Loopback | None = None) -> None:
    """Have a running supervisor, if there is one, leave its daemons to us and go; not before it is known that we can
    `listen`, or nobody would supervise them.

    Raises:
        ControlError: it does not.
        StateDirError: we cannot listen there.
    """
    found = supervisor(state)
    if found is None:
        return
    process = found.process
    if process is None:
        raise ControlError(f"{state.path} is supervised by {found}, which cannot be told to let go: {found.fault}")
    client = Client(state, patience_s=REMADE_S)
    with contextlib.suppress(NoSupervisor):
        if listen is not None and listen.url != client.status().supervisor.url:  # its own port will be free
            listen.bind().close()
        client.shutdown(detach=True)
    if not wait_until_released(state, process, TAKEOVER_S):
        raise ControlError(f"supervisor pid {process.pid} does not let go; end it by its pid, then serve again")
    process.close()
