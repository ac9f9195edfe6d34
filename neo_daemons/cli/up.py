"""``up``: start a supervisor in the background."""

from __future__ import annotations

import argparse
import time

from neo_daemons.config.configuration import Configuration
from neo_daemons.control.address import Loopback
from neo_daemons.control.client import REMADE_S, Client
from neo_daemons.status import DaemonStatus, Status

from . import display
from .background import connect, spawn
from .codes import DONE, FAILED, REQUIRED
from .requirements import load_with_requirements
from .selection import chosen_of, with_requirements
from .streams import complain
from .takeover import ends_unused, supervisor

POLL_S = 0.05
NO_FAILURE = frozenset({"idle", "stopped", "external"})


def up(options: argparse.Namespace) -> int:
    """Start a supervisor unless one is running, and wait until its daemons are ready, or those that are named."""
    configuration = load_with_requirements(options)
    state = configuration.state
    chosen = chosen_of(configuration.definitions, options.names, option="")
    running = supervisor(state)
    spawned = None
    client = Client(state, patience_s=REMADE_S)
    if running is None or options.takeover or ends_unused(state):
        state.create()
        extra = ["--takeover"] if running is not None else []
        if options.listen is not None:
            extra += ["--listen", options.listen.url.removeprefix("http://")]
        for name in dict.fromkeys([*chosen, *options.require] if chosen else ()):
            extra += ["--only", name]
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
        known = {daemon.name: daemon for daemon in status.daemons}
        if unknown := sorted({*options.require, *chosen} - known.keys()):
            them = "this daemon" if len(unknown) == 1 else "these daemons"
            why = f"the running supervisor (pid {status.supervisor.pid}) does not know {them}"
            how = f"{why}; fix: {state.command('reload')}"
            if set(unknown) & set(options.require):
                return complain(f"required: {', '.join(unknown)}: {how}", REQUIRED)
            return complain(f"{', '.join(unknown)}: {how}", FAILED)
        for name in chosen:
            if not known[name].ready and known[name].state != "external":
                client.order(name, "start")
    for daemon in client.status().daemons if options.require else ():
        if daemon.state == "idle" and daemon.name in options.require:
            client.order(daemon.name, "start")
    daemons = _wait(client, options.wait, [*chosen, *options.require] if chosen else [])
    status = client.status()
    reached = f", control API on {status.supervisor.url}" if status.supervisor.url else ""
    print(f"supervisor pid {status.supervisor.pid}, state in {state.path}{reached}")
    # An external or stopped daemon that is not ready is not a failure, unless it is required.
    asked = {*options.require, *options.names}
    failed = [d for d in daemons if not d.ready and (d.state not in NO_FAILURE or d.name in asked)]
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


def _wait(client: Client, timeout_s: float, chosen: list[str]) -> list[DaemonStatus]:
    """Wait for an outcome of these daemons and of those that they require, by default of all. Return them."""
    deadline = time.monotonic() + timeout_s
    lines = display.Lines()
    while True:
        known = {daemon.name: daemon for daemon in client.status().daemons}
        concerned = with_requirements(chosen or known, known)
        daemons = [daemon for name, daemon in known.items() if name in concerned]
        lines.show(daemons)
        if all(daemon.settled for daemon in daemons) or time.monotonic() > deadline:
            return daemons
        time.sleep(POLL_S)
