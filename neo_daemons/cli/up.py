"""``up``: start a supervisor in the background."""

from __future__ import annotations

import argparse
import time

from neo_daemons.config.configuration import Configuration
from neo_daemons.control.address import Loopback
from neo_daemons.control.client import REMADE_S, Client
from neo_daemons.status import Status

from . import display
from .background import connect, spawn
from .codes import DONE, FAILED, REQUIRED
from .requirements import load_with_requirements
from .streams import complain
from .takeover import ends_unused, supervisor

POLL_S = 0.05
NO_FAILURE = frozenset({"idle", "stopped", "external"})


def up(options: argparse.Namespace) -> int:
    """Start a supervisor unless one is running, and wait until its daemons are ready."""
    configuration = load_with_requirements(options)
    state = configuration.state
    running = supervisor(state)
    spawned = None
    client = Client(state, patience_s=REMADE_S)
    if running is None or options.takeover or ends_unused(state):
        state.create()
        extra = ["--takeover"] if running is not None else []
        if options.listen is not None:
            extra += ["--listen", options.listen.url.removeprefix("http://")]
        spawned = spawn(state, options.config, *extra)
        code = connect(spawned, state, running)
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
        complain(display.line(daemon), FAILED)
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


def _wait(client: Client, timeout_s: float) -> Status:
    deadline = time.monotonic() + timeout_s
    lines = display.Lines()
    while True:
        status = client.status()
        lines.show(status.daemons)
        if all(daemon.settled for daemon in status.daemons) or time.monotonic() > deadline:
            return status
        time.sleep(POLL_S)
