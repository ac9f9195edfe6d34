"""``serve``: the supervisor in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from neo_daemons.config import ConfigError, Configuration, load
from neo_daemons.control.server import settled
from neo_daemons.orchestrator import AgentOrchestrator
from neo_daemons.supervision.supervisor import AlreadyRunning

from . import ALREADY_RUNNING, DONE, REQUIRED, complain, render
from .takeover import take_over

REFRESH_S = 1.0
"""Of the table, when nothing changes but uptimes."""
REFRESH_MIN_S = 0.1


def serve(options: argparse.Namespace) -> int:
    """Supervise until a signal or a request ends it."""
    configuration = load_with_requirements(options)
    if options.takeover:
        take_over(configuration.state)
    try:
        return asyncio.run(_serve(configuration, options))
    except AlreadyRunning as error:
        return complain(str(error), ALREADY_RUNNING)


def load_with_requirements(options: argparse.Namespace) -> Configuration:
    """The configuration, with ``--require`` checked against it.

    Raises:
        ConfigError: either is wrong.
    """
    configuration = load(options.config, state_dir=options.state_dir)
    known = {definition.name for definition in configuration.definitions}
    for name in options.require:
        if name not in known:
            raise ConfigError(f"--require {name}: no such daemon; configured: {', '.join(sorted(known))}")
    return configuration


async def _serve(configuration: Configuration, options: argparse.Namespace) -> int:
    orchestrator = AgentOrchestrator(configuration, config_file=options.config)
    tasks: list[asyncio.Task[None]] = []
    missing: list[str] = []

    def started() -> None:
        tasks.append(asyncio.create_task(_show(orchestrator)))
        tasks.extend(asyncio.create_task(_require(orchestrator, name, missing)) for name in options.require)

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
    daemon = orchestrator.supervisor.daemon(name)
    await daemon.wait_for(settled)
    if not daemon.ready:
        missing.append(f"required: {render.line(daemon.status(None))}")
        orchestrator.ask_to_stop()


async def _show(orchestrator: AgentOrchestrator) -> None:
    # A terminal that has gone away must not end the supervisor.
    with contextlib.suppress(OSError):
        if sys.stdout.isatty():
            await _show_table(orchestrator)
        else:
            await _show_lines(orchestrator)


async def _show_lines(orchestrator: AgentOrchestrator) -> None:
    supervisor = orchestrator.supervisor
    print(f"supervising {supervisor.state.path} as pid {orchestrator.status().supervisor.pid}", flush=True)
    lines = render.Lines()
    while True:
        lines.show(daemon.status(None) for daemon in supervisor.daemons.values())
        await supervisor.site.changed.wait()


async def _show_table(orchestrator: AgentOrchestrator) -> None:
    from rich.live import Live

    supervisor = orchestrator.supervisor
    with Live(render.table(orchestrator.status()), console=render.console(), auto_refresh=False) as live:
        try:
            while True:
                await supervisor.site.changed.wait(REFRESH_S)
                await asyncio.sleep(REFRESH_MIN_S)
                live.update(render.table(orchestrator.status()), refresh=True)
        finally:
            live.update(render.table(orchestrator.status()), refresh=True)
