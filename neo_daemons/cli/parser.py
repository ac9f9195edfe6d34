"""The commands and their options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from neo_daemons.version import VERSION

from .codes import UNKNOWN, USAGE
from .streams import say

if TYPE_CHECKING:
    from neo_daemons.control.address import Loopback

WAIT_S = 600.0
"""How long `up`, `start` and `restart` wait for readiness by default: a first start may have to compile."""


class _Parser(argparse.ArgumentParser):
    usage_code = USAGE

    def error(self, message: str) -> NoReturn:
        say(f"{self.format_usage()}{self.prog}: error: {message}")
        sys.exit(self.usage_code)


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. Its result has the parser of the command as `parser`."""
    parser = _Parser(
        prog="neo-daemons",
        description="Supervise the daemons of this project: chroma, bridge, mlx, and any that neo-daemons.toml names.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 no supervisor, 4 already supervised, "
        "5 a required daemon cannot run; of health: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"neo-daemons {VERSION}")
    where = _Parser(add_help=False)
    where.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: looked for from here up)")
    where.add_argument(
        "--state-dir",
        type=_directory,
        metavar="DIR",
        help="where the supervisor keeps its files (default: .neo-daemons)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> _Parser:
        made = commands.add_parser(name, help=text, description=text, parents=[where], allow_abbrev=False)
        made.set_defaults(parser=made)
        return made

    serve = command("serve", "start the daemons and keep them up, in the foreground")
    up = command("up", "the same in the background; returns when they are ready")
    for one in (serve, up):
        one.add_argument(
            "--require", action="append", default=[], metavar="NAME", help="fail if this daemon cannot run (repeatable)"
        )
        one.add_argument(
            "--takeover", action="store_true", help="take over from a running supervisor; the daemons stay up"
        )
        one.add_argument(
            "--listen",
            type=_loopback,
            metavar="[HOST:]PORT",
            help="offer the control API over TCP too, to who has the token in control.token (0: any free port)",
        )
    serve.add_argument(
        "--detach-on-exit", action="store_true", help="leave the daemons running for the next supervisor"
    )
    up.add_argument("--wait", type=_seconds, default=WAIT_S, metavar="SECONDS", help="how long to wait for readiness")

    down = command("down", "stop the supervisor and its daemons; returns when they are gone")
    down.add_argument("--detach", action="store_true", help="leave the daemons running for the next supervisor")

    status = command("status", "show the daemons")
    status.add_argument("--json", action="store_true", help="as JSON, a stable contract")
    purpose = status.add_mutually_exclusive_group()
    purpose.add_argument("--watch", action="store_true", help="again and again")
    purpose.add_argument(
        "--check", action="store_true", help="for scripts: exit with 1 unless every enabled daemon is ready"
    )

    health = command("health", "look at the daemons from outside; needs no supervisor, changes nothing")
    health.usage_code = UNKNOWN
    health.epilog = "Exit codes: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown, or nothing could be looked at."
    health.add_argument("names", nargs="*", metavar="NAME", help="daemons (default: all that are configured)")
    health.add_argument("--json", action="store_true", help="as JSON, a stable contract")
    health.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="[NAME=]URL",
        help="where a daemon is that somebody else runs (repeatable)",
    )
    health.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS", help="how long to wait for all to be healthy"
    )

    for name, text in (
        ("start", "start daemons, also parked ones"),
        ("stop", "stop daemons, until they are started again"),
        ("restart", "stop and start daemons"),
        ("hold", "do not restart daemons when they end, until they are released"),
        ("release", "end a hold, and start what is down"),
    ):
        order = command(name, text)
        order.add_argument("names", nargs="+", metavar="NAME")
        order.add_argument("--wait", type=_seconds, default=WAIT_S, metavar="SECONDS", help="how long to wait (0: not)")

    logs = command("logs", "show what a daemon has written")
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-n", dest="lines", type=_count, default=100, metavar="LINES", help="how many (default: 100)")
    logs.add_argument("-f", dest="follow", action="store_true", help="and what it goes on to write")

    events = command("events", "show what happened")
    events.add_argument("-n", dest="lines", type=_count, default=50, metavar="COUNT", help="how many (default: 50)")
    events.add_argument("-f", dest="follow", action="store_true", help="and what goes on to happen")
    events.add_argument("--json", action="store_true", help="one JSON object a line")

    why = command("why", "explain the state of a daemon")
    why.add_argument("name", metavar="NAME")
    why.add_argument("--json", action="store_true", help="as JSON")

    reload = command("reload", "read the configuration again; touches only what changed")
    reload.add_argument("--dry-run", action="store_true", help="only say what would be done")

    command("doctor", "look at what is installed, taken, stale or orphaned; changes nothing")
    command("reap", "end processes that an earlier supervisor left; lists those that are not provably ours")
    return parser


def _directory(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it is empty: write a directory")
    return Path(text)


def _loopback(text: str) -> Loopback:
    from neo_daemons.control.address import Loopback

    try:
        return Loopback.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds, from 0 to 86400")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 0 to 100000")
    return int(text)
