"""``down``: stop a supervisor, or end the processes that one has left."""

from __future__ import annotations

import argparse
from pathlib import Path

from neo_daemons import procfs
from neo_daemons.config.locate import find_state_dir
from neo_daemons.control.client import REMADE_S, Client, ControlError, NoSupervisor, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import Process, current_platform
from neo_daemons.supervision.presence import FoundSupervisor
from neo_daemons.supervision.reaping import reap

from . import render
from .codes import DONE, FAILED, NO_SUPERVISOR
from .streams import complain
from .takeover import end, supervisor, wait_until_ended, wait_until_released

GOODBYE_S = 2.0
UNREACHABLE_S = 60.0
"""For a supervisor that cannot be asked to stop its daemons, in their graces, after a SIGTERM."""


def down(options: argparse.Namespace) -> int:
    """Stop a supervisor and its daemons; without a supervisor, end the processes that one has left."""
    state = find_state_dir(options.state_dir, file=options.config)
    found = supervisor(state)
    if found is not None:
        _stop(found, state, detach=options.detach)
    if options.detach:
        return DONE if found is not None else complain(f"no supervisor is running for {state.path}", NO_SUPERVISOR)
    reaped = reap(state, current_platform())
    for orphan in reaped.ended:
        print(f"ended {orphan.name}, pid {orphan.pid}, which a supervisor had left")
    if reaped.held:
        return complain(render.STILL_HELD.format(", ".join(reaped.held)), FAILED)
    if found is None and not reaped.ended:
        print(f"nothing is running for {state.path}")
    return DONE


def _is_ours_alone(process: Process) -> bool:
    """Whether a process is a supervisor and nothing else, not a program that a supervisor is embedded in."""
    return any(part == "neo_daemons" or Path(part).name == "neo-daemons" for part in procfs.command(process.pid)[:5])


def _stop(found: FoundSupervisor, state: StateDir, *, detach: bool) -> None:
    """Stop a supervisor that lives, also one that cannot be reached.

    Raises:
        ControlError: it cannot be stopped.
    """
    process = found.process
    try:
        Client(state, patience_s=REMADE_S).shutdown(detach=detach)
    except NoSupervisor:
        return  # it has just ended
    except Unreachable as error:
        if process is None or detach:
            raise
        if not _is_ours_alone(process):
            raise ControlError(f"{error}; pid {process.pid} is a program of its own: end that by hand") from None
        complain(f"{error}; stopping pid {process.pid} by a signal", FAILED)
        end(process, UNREACHABLE_S)
    if process is None:
        print(f"the supervisor of {state.path} has been asked to stop")
        return
    wait_until_released(state, process)
    # A program of its own ends right after; one that a supervisor is embedded in may go on.
    gone = wait_until_ended(process, GOODBYE_S)
    rest = "; its daemons run on" if detach else ", and so are its daemons"
    print(f"supervisor pid {process.pid} {'is gone' if gone else 'has stopped'}{rest}")
