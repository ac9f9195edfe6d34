"""Start a supervisor in the background, and wait for its first answer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from neo_daemons import interpreter
from neo_daemons.control.client import Client, ControlError, Unreachable
from neo_daemons.environment import OF_SERVICE_MANAGER
from neo_daemons.state_dir import StateDir
from neo_daemons.supervision.platform import MARK_VARIABLE, Process, SpawnSpec, current_platform
from neo_daemons.supervision.presence import FoundSupervisor, Presence, presence

from .codes import FAILED
from .streams import complain
from .takeover import end, supervisor

POLL_S = 0.05
CONNECT_S = 30.0
"""How long a supervisor may take from its spawn to its first answer."""
END_S = 10.0
"""How long a supervisor that did not answer may take to stop, with what it has started."""


def spawn(state: StateDir, config: Path | None, *arguments: str) -> Process:
    """Start `serve` with further arguments. Its output goes to the supervisor's log."""
    command = interpreter.command("neo_daemons", "serve", "--state-dir", str(state.path))
    if config is not None:
        command += ["--config", str(config.resolve())]
    # It is not the service that a service manager may have started.
    env = {name: value for name, value in os.environ.items() if name not in (MARK_VARIABLE, *OF_SERVICE_MANAGER)}
    output = _open_log(state)
    try:
        return current_platform().spawn(SpawnSpec([*command, *arguments], env, str(Path.cwd()), output))
    finally:
        os.close(output)


def _open_log(state: StateDir) -> int:
    """Open the supervisor's log, emptied unless a running supervisor may be writing to it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    unused = presence(state) in (Presence.ABSENT, Presence.UNUSED)
    return os.open(state.supervisor_log, flags | os.O_TRUNC if unused else flags, 0o600)


def connect(spawned: Process, state: StateDir, replaced: FoundSupervisor | None) -> int | None:
    """Wait for the first answer of a new supervisor, which may take the place of `replaced`. If it does not answer,
    stop it and return an exit code."""
    try:
        code = _first_answer(spawned, state, replaced)
    except BaseException:
        end(spawned, END_S)
        raise
    if code is not None:
        end(spawned, END_S)
    return code


def _first_answer(spawned: Process, state: StateDir, replaced: FoundSupervisor | None) -> int | None:
    deadline = time.monotonic() + CONNECT_S
    while time.monotonic() < deadline:
        alive = spawned.is_alive()
        fault = ""
        try:
            if Client(state).status().supervisor.pid == spawned.pid:
                return None
        except Unreachable:
            pass
        except ControlError as error:
            fault = f" ({error})"  # of an earlier supervisor, whose record the new one replaces if that one has exited
        if not alive:
            other = supervisor(state)
            if other is not None and str(other) != str(replaced):  # another supervisor was faster
                return None
            said = state.supervisor_log.read_text(errors="replace").strip().splitlines()
            why = f": {said[-1]}" if said else "; its log is empty"
            return complain(f"the supervisor exited immediately{why}{fault}", FAILED)
        time.sleep(POLL_S)
    return complain(f"supervisor pid {spawned.pid} is not responding; see {state.supervisor_log}", FAILED)
