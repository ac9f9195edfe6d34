"""``down``: stop a supervisor, or the processes that one has left behind."""

from __future__ import annotations

import argparse
from pathlib import Path

from neo_daemons import processes
from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client, ControlError, NoSupervisor, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Process, current_platform
from neo_daemons.supervision.presence import FoundSupervisor
from neo_daemons.supervision.reaping import reap

from . import display
from .codes import DONE, FAILED, NO_SUPERVISOR
from .streams import complain
from .takeover import end, supervisor, wait_until_ended, wait_until_released

GOODBYE_S = 2.0
UNREACHABLE_S = 60.0
"""How long an unreachable supervisor may take after SIGTERM to stop its daemons."""


def down(options: argparse.Namespace) -> int:
    """Stop a supervisor and its daemons; without a supervisor, stop the processes that one has left behind."""
    state = find_state_dir(options.state_dir, file=options.config)
    found = supervisor(state)
    if found is not None:
        _stop(found, state, detach=options.detach)
    if options.detach:
        return DONE if found is not None else complain(f"no supervisor is running in {state.path}", NO_SUPERVISOR)
    reaped = reap(state, current_platform())
    for orphan in reaped.ended:
        print(f"stopped {orphan.name}, pid {orphan.pid}, left behind by an earlier supervisor")
    if reaped.held:
        return complain(display.STILL_HELD.format(", ".join(reaped.held), state.command("doctor")), FAILED)
    if found is None and not reaped.ended:
        print(f"no supervisor or daemon is running for {state.path}")
    return DONE


def _is_ours_alone(process: Process) -> bool:
    """Return whether a process is a supervisor and nothing else, not a program that embeds one."""
    return any(part == "neo_daemons" or Path(part).name == "neo-daemons" for part in processes.command(process.pid)[:5])


def _stop(found: FoundSupervisor, state: StateDir, *, detach: bool) -> None:
    """Stop a running supervisor, even if it cannot be reached.

    Raises:
        ControlError: it cannot be stopped.
    """
    process = found.process
    try:
        Client(state, patience_s=REMADE_S).shutdown(detach=detach)
    except NoSupervisor:
        return  # it has just exited
    except Unreachable as error:
        if process is None or detach:
            raise
        if not _is_ours_alone(process):
            remedy = f"pid {process.pid} is a program that embeds the supervisor; stop that program yourself"
            raise ControlError(f"{error}; {remedy}") from None
        complain(f"{error}; stopping pid {process.pid} with a signal", FAILED)
        end(process, UNREACHABLE_S)
    if process is None:
        print(f"asked the supervisor of {state.path} to stop")
        return
    wait_until_released(state, process)
    # A supervisor process exits right after; a program that embeds one may go on.
    wait_until_ended(process, GOODBYE_S)
    if detach:
        print(f"supervisor pid {process.pid} has stopped; its daemons are still running")
    else:
        print(f"supervisor pid {process.pid} and its daemons have stopped")
