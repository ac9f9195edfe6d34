"""Stop or replace a running supervisor, and wait for it."""

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
"""How long a supervisor may take to hand over its daemons; it usually takes milliseconds."""


def supervisor(state: StateDir) -> FoundSupervisor | None:
    """Return the supervisor of a state directory, reachable or not; None if none is running.

    Raises:
        ControlError: its files cannot be read.
    """
    try:
        return find_supervisor(state)
    except OSError as error:
        raise ControlError(f"cannot read {error.filename or state.path}: {error.strerror}") from None


def ends_unused(state: StateDir) -> bool:
    """Return whether a supervisor is running that `exec` has started for the time of a command: an ordinary one may
    replace it unasked."""
    try:
        return Client(state).status().supervisor.ends_unused
    except ControlError:
        return False


def wait_until_released(state: StateDir, process: Process, timeout_s: float | None = None) -> bool:
    """Wait until a supervisor has released the state directory, even if its process goes on; return False if
    `timeout_s` passed first."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while process.is_alive() and _record_pid(state) == process.pid:
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def wait_until_ended(process: Process, timeout_s: float) -> bool:
    """Wait until the process has exited; return False if `timeout_s` passed first."""
    deadline = time.monotonic() + timeout_s
    while process.is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(process: Process, grace_s: float) -> None:
    """Stop a process with SIGTERM and, after `grace_s` seconds, with SIGKILL; wait at most as long again."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        process.signal(signum)
        process.signal(signal.SIGCONT)  # a suspended process handles signals only then
        if wait_until_ended(process, grace_s):
            return


def _record_pid(state: StateDir) -> int | None:
    with contextlib.suppress(DamagedRecord, OSError):
        record = records.read(state.record, SupervisorRecord)
        return record.pid if record is not None else None
    return None


def take_over(state: StateDir, listen: Loopback | None = None) -> None:
    """Have a running supervisor, if there is one, stop and leave its daemons running for us. This checks first that we
    can `listen`: otherwise no one would supervise them.

    Raises:
        ControlError: the supervisor does not stop.
        StateDirError: we cannot listen there.
    """
    found = supervisor(state)
    if found is None:
        return
    process = found.process
    if process is None:
        raise ControlError(f"cannot take over {state.path}: {found} does not respond: {found.fault}")
    client = Client(state, patience_s=REMADE_S)
    with contextlib.suppress(NoSupervisor):
        if listen is not None and listen.url != client.status().supervisor.url:  # its own port will be free
            listen.bind().close()
        client.shutdown(detach=True)
    if not wait_until_released(state, process, TAKEOVER_S):
        raise ControlError(
            f"supervisor pid {process.pid} did not hand over its daemons; "
            f"stop it (kill {process.pid}) and run `{state.command('serve')}` again"
        )
    process.close()
