"""``status --watch``: the full-screen view, or the table again and again, or lines."""

from __future__ import annotations

import argparse
import os
import sys
import time

import msgspec

from neo_daemons.control.client import Client

from . import display
from .codes import DONE
from .streams import complain

WATCH_S = 1.0


def watch(client: Client, options: argparse.Namespace) -> int:
    """Show the status until the user ends that."""
    if options.json or not sys.stdout.isatty():
        _print(client, as_json=options.json)
    if sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            from .screen.app import run
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "textual":
                raise
            from neo_daemons.extras import pip_install

            complain(f"for a full-screen view: {pip_install('tui')}", DONE)
        else:
            return run(Client(client.state_dir))  # without patience: it shows that it waits
    from rich.live import Live

    console = display.console()
    with Live(display.table(client.status(), console.width), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(display.table(client.status(), console.width), refresh=True)


def _print(client: Client, *, as_json: bool) -> None:
    """Print the status every second, for ever."""
    while True:
        status = client.status()
        print(msgspec.json.encode(status).decode() if as_json else "\n".join(map(display.line, status.daemons)))
        sys.stdout.flush()
        time.sleep(WATCH_S)
