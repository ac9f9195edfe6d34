"""``serve``: the supervisor in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import sys
import threading

from neo_daemons.config.configuration import Configuration
from neo_daemons.life import Life
from neo_daemons.orchestrator import AgentOrchestrator
from neo_daemons.service_manager import ServiceManager
from neo_daemons.status import Cause, Change
from neo_daemons.supervision import faults
from neo_daemons.supervision.claim import AlreadyRunning
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.machine import State
from neo_daemons.supervision.supervisor import Supervisor

from . import display
from .codes import ALREADY_RUNNING, DONE, REQUIRED
from .requirements import load_with_requirements
from .streams import complain
from .takeover import ends_unused, take_over

REFRESH_S = 1.0
"""The interval at which the table is redrawn when only uptimes change."""
REFRESHES = 4
"""At most so many per second."""
MAX_UNPRINTED = 10_000
PRINT_S = 0.02
"""The delay before lines are printed: the printing thread would compete with the restart of which they tell."""
CLOSE_S = 2.0
FROZEN_S = 10.0
"""By then most daemons have started. What lives as long as we do is left out of later garbage collections, which would
hold up everything for 50 ms with a thousand daemons."""


def serve(options: argparse.Namespace) -> int:
    """Run the supervisor until a signal or a request stops it."""
    manager = ServiceManager.take(os.environ)
    configuration = load_with_requirements(options)
    if options.takeover or (not options.until_unused and ends_unused(configuration.state)):
        take_over(configuration.state, options.listen)
    faults.write_to_stderr()
    try:
        return asyncio.run(_serve(configuration, options, manager))
    except AlreadyRunning as error:
        return complain(str(error), ALREADY_RUNNING)


class _Service(AgentOrchestrator):
    """A supervisor that reports to the service manager, if there is one, what happens to it."""

    manager: ServiceManager
    missing: list[str]
    """Why daemons of ``--require`` cannot run."""

    async def reload(self, *, dry_run: bool = False) -> list[Change]:
        if dry_run:
            return await super().reload(dry_run=True)
        with self.manager.reloading():
            return await super().reload()

    def ask_to_stop(self, *, detach: bool = False) -> None:
        super().ask_to_stop(detach=detach)
        self.manager.stopping(well=self.lost is None and not self.missing)


async def _serve(configuration: Configuration, options: argparse.Namespace, manager: ServiceManager) -> int:
    orchestrator = _Service(
        configuration, config_file=options.config, listen=options.listen, on_demand=options.until_unused
    )
    missing: list[str] = []
    orchestrator.manager, orchestrator.missing = manager, missing
    if options.until_unused:
        orchestrator.supervisor.ends_unused = True
        orchestrator.life = Life(owner_lives=False, keep_s=0.0, end=orchestrator.ask_to_stop)
    tasks: list[asyncio.Task[None]] = []

    def started() -> None:
        for after_s in (0.0, FROZEN_S):
            asyncio.get_running_loop().call_later(after_s, gc.freeze)
        manager.begin(orchestrator.supervisor)
        tasks.append(faults.reported(asyncio.create_task(_show(orchestrator)), "showing the daemons"))
        for daemon in map(orchestrator.supervisor.daemon, options.require):
            if daemon.definition.enabled and daemon.definition.start == "on-demand":
                orchestrator.supervisor.demand.start(daemon)
        requiring = [asyncio.create_task(_require(orchestrator, name, missing)) for name in options.require]
        tasks.extend(faults.reported(task, "watching the daemons of --require") for task in requiring)

    try:
        await orchestrator.run(detach_on_exit=options.detach_on_exit, started=started)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await manager.end()
    for message in missing:
        complain(message, REQUIRED)
    return REQUIRED if missing else DONE


async def _require(orchestrator: AgentOrchestrator, name: str, missing: list[str]) -> None:
    """Wait until the daemon is ready. Stop the supervisor if it cannot become ready, unless an operator stopped it."""
    supervisor = orchestrator.supervisor
    while not supervisor.stopping:
        daemon = supervisor.daemons.get(name)
        if daemon is None or daemon.ready:  # or a reload has removed it: then it is no longer required
            return
        on_the_way = [daemon]  # the daemon, and those that it waits for
        while (other := supervisor.daemons.get(on_the_way[-1].situation.waiting_for or "")) is not None:
            on_the_way.append(other)
        in_hand = any(
            one.name in supervisor.fleet.changing or _is_stopped_by_wish(supervisor, one) for one in on_the_way
        )
        if not in_hand and supervisor.is_settled(daemon):
            missing.append(f"a required daemon cannot run: {display.line(supervisor.status_of(daemon))}")
            orchestrator.ask_to_stop()
            return
        await supervisor.changed.wait()


def _is_stopped_by_wish(supervisor: Supervisor, daemon: SupervisedDaemon) -> bool:
    """Return whether an operator has stopped the daemon, or its first start is still to come."""
    if daemon.state is not State.STOPPED or not daemon.definition.enabled:
        return False
    if daemon.situation.detail is None:
        return True  # the processes of an earlier supervisor are stopped first
    return daemon.situation.cause is Cause.OPERATOR


async def _show(orchestrator: AgentOrchestrator) -> None:
    # A terminal that has gone away must not end the supervisor.
    with contextlib.suppress(OSError):
        if sys.stdout.isatty():
            await _show_table(orchestrator)
        else:
            await _show_lines(orchestrator)


def _reached(supervisor: Supervisor) -> str:
    return f", control API on {supervisor.url}" if supervisor.url else ""


async def _show_lines(orchestrator: AgentOrchestrator) -> None:
    supervisor = orchestrator.supervisor
    printer = Printer()
    printer.write([f"supervising {supervisor.state_dir.path} as pid {os.getpid()}{_reached(supervisor)}"])
    unprinted: list[str] = []
    lines = display.Lines(unprinted.append)
    changed = supervisor.changed.names()
    changed.update(dict.fromkeys(supervisor.daemons))

    def show() -> None:
        for name in changed:
            daemon = supervisor.daemons.get(name)
            # Building the whole status of a daemon at each change of it would cost more than a restart.
            if daemon is not None and lines.is_new(name, daemon.state.public, daemon.situation.detail):
                lines.show([supervisor.status_of(daemon)])
        printer.write(unprinted)
        changed.clear()
        unprinted.clear()

    try:
        while True:
            show()
            await supervisor.changed.wait()
    finally:
        show()
        printer.close()


class Printer:
    """Prints from its own thread, so that a pipe without a reader, or a terminal stopped by Ctrl-S, does not block the
    supervisor. While that lasts, lines beyond `MAX_UNPRINTED` are dropped. For use in an event loop."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._closed = False
        self._called_soon = False
        self._called = threading.Condition()
        self._thread = threading.Thread(target=self._print, name="printer", daemon=True)
        self._thread.start()

    def write(self, lines: list[str]) -> None:
        """Print lines soon."""
        if lines:
            with self._called:
                self._lines += lines[: MAX_UNPRINTED - len(self._lines)]
            if not self._called_soon:
                self._called_soon = True
                asyncio.get_running_loop().call_later(PRINT_S, self._call)

    def _call(self) -> None:
        self._called_soon = False
        with self._called:
            self._called.notify()

    def close(self) -> None:
        """Print what is left, as far as the reader takes it."""
        with self._called:
            self._closed = True
            self._called.notify()
        self._thread.join(CLOSE_S)

    def _print(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the reader has gone
            descriptor = sys.stdout.fileno()
            while lines := self._next():
                # Not with print: the interpreter aborts at exit if a blocked thread holds the lock of sys.stdout.
                data = "".join(f"{line}\n" for line in lines).encode(sys.stdout.encoding, "backslashreplace")
                while data:
                    data = data[os.write(descriptor, data) :]

    def _next(self) -> list[str]:
        """Wait for lines and return them; none after the last."""
        with self._called:
            self._called.wait_for(lambda: self._lines or self._closed)
            lines, self._lines = self._lines, []
            return lines


async def _show_table(orchestrator: AgentOrchestrator) -> None:
    from rich.live import Live

    supervisor = orchestrator.supervisor
    console = display.console()
    console.print(f"supervising {supervisor.state_dir.path}{_reached(supervisor)}; press Ctrl-C to stop", markup=False)
    table = display.table(orchestrator.status(), console.width)
    # rich draws the latest table from its own thread, so that a blocked terminal does not block the supervisor.
    with Live(get_renderable=lambda: table, console=console, refresh_per_second=REFRESHES):
        try:
            while True:
                await supervisor.changed.wait(REFRESH_S)
                await asyncio.sleep(1 / REFRESHES)
                table = display.table(orchestrator.status(), console.width)
        finally:
            table = display.table(orchestrator.status(), console.width)
