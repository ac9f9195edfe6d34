"""``serve``: the supervisor in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import queue
import sys
import threading

from neo_daemons.config.configuration import Configuration
from neo_daemons.orchestrator import AgentOrchestrator
from neo_daemons.status import Cause
from neo_daemons.supervision import faults
from neo_daemons.supervision.claim import AlreadyRunning
from neo_daemons.supervision.daemon import SupervisedDaemon
from neo_daemons.supervision.machine import State
from neo_daemons.supervision.supervisor import Supervisor

from . import render
from .codes import ALREADY_RUNNING, DONE, REQUIRED
from .requirements import load_with_requirements
from .streams import complain
from .takeover import take_over

REFRESH_S = 1.0
"""Of the table, when nothing changes but uptimes."""
REFRESHES = 4
"""A second."""
MAX_UNPRINTED = 1000
CLOSE_S = 2.0


def serve(options: argparse.Namespace) -> int:
    """Supervise until a signal or a request ends it."""
    configuration = load_with_requirements(options)
    if options.takeover:
        take_over(configuration.state, options.listen)
    faults.write_to_stderr()
    try:
        return asyncio.run(_serve(configuration, options))
    except AlreadyRunning as error:
        return complain(str(error), ALREADY_RUNNING)


async def _serve(configuration: Configuration, options: argparse.Namespace) -> int:
    orchestrator = AgentOrchestrator(configuration, config_file=options.config, listen=options.listen)
    tasks: list[asyncio.Task[None]] = []
    missing: list[str] = []

    def started() -> None:
        tasks.append(faults.reported(asyncio.create_task(_show(orchestrator)), "showing the daemons"))
        requiring = [asyncio.create_task(_require(orchestrator, name, missing)) for name in options.require]
        tasks.extend(faults.reported(task, "looking after --require") for task in requiring)

    try:
        await orchestrator.run(detach_on_exit=options.detach_on_exit, started=started)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for message in missing:
        complain(message, REQUIRED)
    return REQUIRED if missing else DONE


async def _require(orchestrator: AgentOrchestrator, name: str, missing: list[str]) -> None:
    """Until the daemon is ready; if that cannot come, and nobody wanted it so, the supervisor is asked to stop."""
    supervisor = orchestrator.supervisor
    while not supervisor.stopping:
        daemon = supervisor.daemons.get(name)
        if daemon is None or daemon.ready:  # a reload has removed it: it is required no more
            return
        on_the_way = [daemon]  # it, and whom it waits for
        while (other := supervisor.daemons.get(on_the_way[-1].situation.waiting_for or "")) is not None:
            on_the_way.append(other)
        in_hand = any(
            one.name in supervisor.fleet.changing or _is_stopped_by_wish(supervisor, one) for one in on_the_way
        )
        if not in_hand and supervisor.is_settled(daemon):
            missing.append(f"required: {render.line(supervisor.status_of(daemon))}")
            orchestrator.ask_to_stop()
            return
        await supervisor.changed.wait()


def _is_stopped_by_wish(supervisor: Supervisor, daemon: SupervisedDaemon) -> bool:
    """Whether it is an operator who has stopped it, or it has not been begun yet."""
    if daemon.state is not State.STOPPED or not daemon.definition.enabled:
        return False
    if daemon.situation.detail is None:
        return True  # what an earlier supervisor left is ended first
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
    printer.write(f"supervising {supervisor.state_dir.path} as pid {os.getpid()}{_reached(supervisor)}")
    lines = render.Lines(printer.write)

    def show() -> None:
        for daemon in supervisor.daemons.values():
            # A whole status costs more than a restart, if it is made of each of many daemons at each change of one.
            if lines.is_new(daemon.name, daemon.state.public, daemon.situation.detail):
                lines.show([supervisor.status_of(daemon)])

    try:
        while True:
            show()
            await supervisor.changed.wait()
    finally:
        show()
        printer.close()


class Printer:
    """Prints from a thread of its own: a pipe that nobody reads, or a terminal that is held by Ctrl-S, must not hold
    up the supervisor. What does not fit meanwhile is dropped."""

    def __init__(self) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue(MAX_UNPRINTED)
        self._thread = threading.Thread(target=self._print, name="printer", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Have a line printed."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(text)

    def close(self) -> None:
        """Print what is left, as far as anybody reads it."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
            self._thread.join(CLOSE_S)

    def _print(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone
            descriptor = sys.stdout.fileno()
            while (text := self._queue.get()) is not None:
                # Not by print: a thread that hangs with the lock of sys.stdout would have the interpreter abort.
                data = f"{text}\n".encode(sys.stdout.encoding, "backslashreplace")
                while data:
                    data = data[os.write(descriptor, data) :]


async def _show_table(orchestrator: AgentOrchestrator) -> None:
    from rich.live import Live

    supervisor = orchestrator.supervisor
    console = render.console()
    console.print(f"supervising {supervisor.state_dir.path}{_reached(supervisor)}; Ctrl-C stops", markup=False)
    table = render.table(orchestrator.status(), console.width)
    # rich's own thread draws what we made last, for the reason that Printer gives.
    with Live(get_renderable=lambda: table, console=console, refresh_per_second=REFRESHES):
        try:
            while True:
                await supervisor.changed.wait(REFRESH_S)
                await asyncio.sleep(1 / REFRESHES)
                table = render.table(orchestrator.status(), console.width)
        finally:
            table = render.table(orchestrator.status(), console.width)
