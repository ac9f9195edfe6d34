"""``up``: start a supervisor in the background."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from neo_daemons import interpreter
from neo_daemons.config.configuration import Configuration
from neo_daemons.control.address import Loopback
from neo_daemons.control.client import REMADE_S, Client, ControlError, Unreachable
from neo_daemons.state_dir import StateDir
from neo_daemons.status import Status
from neo_daemons.supervision.platform import MARK_VARIABLE, Process, SpawnSpec, current_platform
from neo_daemons.supervision.presence import FoundSupervisor, Presence, presence

from . import render
from .codes import DONE, FAILED, REQUIRED
from .requirements import load_with_requirements
from .streams import complain
from .takeover import end, supervisor

POLL_S = 0.05
CONNECT_S = 30.0
"""How long a supervisor may take from its spawn to its first answer."""
END_S = 10.0
"""How long a supervisor that did not answer may take to stop, with what it has started."""
NO_FAILURE = frozenset({"idle", "stopped", "external"})


def up(options: argparse.Namespace) -> int:
    """Start a supervisor unless one is running, and wait until its daemons are ready."""
    configuration = load_with_requirements(options)
    state = configuration.state
    running = supervisor(state)
    spawned = None
    client = Client(state, patience_s=REMADE_S)
    if running is None or options.takeover:
        state.create()
        spawned = _spawn(options, state)
        code = _connect(spawned, state, running)
        if code is not None:
            return code
        status = client.status()
    else:
        status = client.status()
        print(f"already running: supervisor pid {status.supervisor.pid}", flush=True)
    if spawned is None or status.supervisor.pid != spawned.pid:
        _say_what_has_no_effect(status, options, configuration)
        unknown = sorted(set(options.require) - {daemon.name for daemon in status.daemons})
        if unknown:
            daemons = "this daemon" if len(unknown) == 1 else "these daemons"
            why = f"the running supervisor (pid {status.supervisor.pid}) does not know {daemons}"
            return complain(f"required: {', '.join(unknown)}: {why}; fix: {state.command('reload')}", REQUIRED)
    for daemon in client.status().daemons if options.require else ():
        if daemon.state == "idle" and daemon.name in options.require:
            client.order(daemon.name, "start")
    status = _wait(client, options.wait)
    reached = f", control API on {status.supervisor.url}" if status.supervisor.url else ""
    print(f"supervisor pid {status.supervisor.pid}, state in {state.path}{reached}")
    # An external or stopped daemon that is not ready is not a failure, unless it is required.
    failed = [d for d in status.daemons if not d.ready and (d.state not in NO_FAILURE or d.name in options.require)]
    if not failed:
        return DONE
    required = [daemon for daemon in failed if daemon.name in options.require]
    for daemon in required or failed:
        complain(render.line(daemon), FAILED)
    return REQUIRED if required else FAILED


def _say_what_has_no_effect(status: Status, options: argparse.Namespace, configuration: Configuration) -> None:
    """Name the options that have no effect on a supervisor that was already running."""
    own = status.supervisor
    remedy = (
        f"for supervisor pid {own.pid}, which is already running; "
        f"to replace it and keep the daemons, run `{configuration.state.command('up --takeover')}`"
    )
    if options.listen is not None and not _listens(own.url, options.listen):
        is_reached = f"the control API is on {own.url}" if own.url else "the control API is not served over TCP"
        complain(f"warning: --listen has no effect ({is_reached}) {remedy}", DONE)
    if options.config is not None and own.config != str(configuration.source):
        used = own.config or "the built-in daemons"
        complain(f"warning: --config has no effect (the running supervisor uses {used}) {remedy}", DONE)


def _listens(url: str | None, wanted: Loopback) -> bool:
    if url is None or wanted.port:
        return url == wanted.url
    return url.rpartition(":")[0] == wanted.url.rpartition(":")[0]


def _spawn(options: argparse.Namespace, state: StateDir) -> Process:
    command = interpreter.command("neo_daemons", "serve", "--state-dir", str(state.path))
    if options.config is not None:
        command += ["--config", str(options.config.resolve())]
    if options.takeover:
        command.append("--takeover")
    if options.listen is not None:
        command += ["--listen", options.listen.url.removeprefix("http://")]
    env = {name: value for name, value in os.environ.items() if name != MARK_VARIABLE}
    output = _open_log(state)
    try:
        return current_platform().spawn(SpawnSpec(command, env, str(Path.cwd()), output))
    finally:
        os.close(output)


def _open_log(state: StateDir) -> int:
    """Open the supervisor's log, emptied unless a running supervisor may be writing to it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    unused = presence(state) in (Presence.ABSENT, Presence.UNUSED)
    return os.open(state.supervisor_log, flags | os.O_TRUNC if unused else flags, 0o600)


def _connect(spawned: Process, state: StateDir, replaced: FoundSupervisor | None) -> int | None:
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


def _wait(client: Client, timeout_s: float) -> Status:
    deadline = time.monotonic() + timeout_s
    lines = render.Lines()
    while True:
        status = client.status()
        lines.show(status.daemons)
        if all(daemon.settled for daemon in status.daemons) or time.monotonic() > deadline:
            return status
        time.sleep(POLL_S)
