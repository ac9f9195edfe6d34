"""The commands and their options."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from neo_daemons.similar import closest
from neo_daemons.version import VERSION

from . import engine_options, formatters, values
from .codes import UNKNOWN, USAGE
from .examples import EXAMPLES
from .streams import say

HELP_WIDTH = 78
"""Of descriptions, which argparse leaves as they are, like the examples."""
WAIT_S = 600.0
"""How long `up`, `start` and `restart` wait by default: the first start may have to compile something."""


class _Parser(argparse.ArgumentParser):
    usage_code = USAGE

    def error(self, message: str) -> NoReturn:
        if unknown := re.search(r"unrecognized arguments: (--[\w-]+)", message):
            near = closest(unknown[1], re.findall(r"--[\w-]+", self.format_usage()))
            message += f"; did you mean {near}?" if near else ""
        say(f"{self.format_usage()}{self.prog}: error: {message}")
        sys.exit(self.usage_code)


def command_parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line. Its result has the parser of the command as `parser`.

    Args:
        given: what will be parsed. If it begins with a command, only that one is known: for all of them, argparse needs
            milliseconds.
    """
    parser = _Parser(
        prog="neo-daemons",
        description="Supervise this project's daemons: chroma, bridge, mlx, and any others defined in "
        "neo-daemons.toml.",
        epilog="Exit codes: 0 success, 1 operation failed, 2 invalid usage or configuration, 3 no supervisor running, "
        "4 already supervised, 5 a required daemon cannot run. `health` has its own: 0 healthy, 1 degraded, "
        "2 unhealthy, 3 unknown.",
        allow_abbrev=False,
        formatter_class=formatters.plain_help,
    )
    parser.add_argument("--version", action="version", version=f"neo-daemons {VERSION}")
    commands = parser.add_subparsers(prog=parser.prog, dest="command", metavar="COMMAND", required=True)
    for name in given[:1] if given and given[0] in COMMANDS else COMMANDS:
        text, add_options = COMMANDS[name]
        command = commands.add_parser(
            name,
            help=text,
            description=_filled(text),
            allow_abbrev=False,
            formatter_class=formatters.command_help,
        )
        command.set_defaults(parser=command)
        if name in given:
            command.epilog = "\n  ".join(["examples:", *EXAMPLES[name].splitlines()])
            if name not in WITHOUT_PROJECT:
                _place(command)
            add_options(command)
    if given and given[0].startswith("-") and given[0] not in ("-h", *ALONE):
        near = closest(given[0], ALONE, cutoff=0.75)
        remedy = f"did you mean {near}?" if near else "options follow the command"
        parser.error(f"unknown option {given[0].partition('=')[0]}; {remedy}")
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        near = closest(given[0], COMMANDS)
        remedy = f"did you mean {near}?" if near else f"use one of: {', '.join(COMMANDS)}"
        parser.error(f"unknown command {given[0]!r}; {remedy}")
    return parser


def _filled(text: str) -> str:
    """Return a description in lines that fit a terminal."""
    if len(text) <= HELP_WIDTH:
        return text
    import textwrap  # few commands need it

    return textwrap.fill(text, HELP_WIDTH)


def _place(command: _Parser) -> None:
    command.add_argument(
        "--config",
        type=values.file,
        metavar="FILE",
        help="configuration file (default: search this directory and its parents)",
    )
    command.add_argument(
        "--state-dir",
        type=values.directory,
        metavar="DIR",
        help="state directory of the supervisor (default: $NEO_DAEMONS_STATE_DIR, state_dir of the configuration, or "
        ".neo-daemons)",
    )


def _no_more(command: _Parser) -> None:
    pass


def _doctor(command: _Parser) -> None:
    command.add_argument(
        "--tests",
        action="store_true",
        help="say what a pytest run cannot isolate: ports and paths of production that are written out",
    )


def _supervisor(command: _Parser) -> None:
    command.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="NAME",
        help="exit with code 5 if this daemon cannot run (repeatable)",
    )
    command.add_argument(
        "--takeover", action="store_true", help="replace a running supervisor; its daemons keep running"
    )
    command.add_argument(
        "--listen",
        type=values.loopback,
        metavar="[HOST:]PORT",
        help="also serve the control API over TCP; clients need the token from control.token in the state directory "
        "(port 0: any free port)",
    )


def _serve(command: _Parser) -> None:
    _supervisor(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="start only this daemon or @GROUP, and what it requires (repeatable); others wait for `start`",
    )
    command.add_argument(
        "--detach-on-exit",
        action="store_true",
        help="on exit, leave the daemons running for the next supervisor to adopt",
    )
    which.add_argument(
        "--until-unused",
        action="store_true",
        help="start daemons only when a program needs them, and exit when no program does any more",
    )


def _up(command: _Parser) -> None:
    command.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="start only this daemon or @GROUP, and what it requires; others are left as they are",
    )
    _supervisor(command)
    _wait(command, WAIT_S, "maximum time to wait for readiness (default: 600)")


def _down(command: _Parser) -> None:
    command.add_argument(
        "--detach", action="store_true", help="leave the daemons running for the next supervisor to adopt"
    )


def _status(command: _Parser) -> None:
    shape = command.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON (a stable format)")
    shape.add_argument("--format", choices=("openmetrics",), help="print metrics, as /metrics of --listen has them")
    purpose = command.add_mutually_exclusive_group()
    purpose.add_argument("--watch", action="store_true", help="keep showing it, full-screen with the extra tui")
    purpose.add_argument(
        "--check",
        action="store_true",
        help="exit with code 1 unless every enabled daemon is ready, or idle (for scripts)",
    )


def _health(command: _Parser) -> None:
    command.usage_code = UNKNOWN
    command.epilog = (
        f"{command.epilog}\n\nexit codes: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown, or nothing could be\nchecked"
    )
    command.add_argument("names", nargs="*", metavar="NAME", help="daemon to check (default: all configured daemons)")
    command.add_argument("--json", action="store_true", help="print JSON (a stable format)")
    command.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="[NAME=]URL",
        help="URL of an external daemon to check (repeatable)",
    )
    _wait(command, 0.0, "maximum time to wait until all are healthy (default: 0)")


def _order(command: _Parser) -> None:
    command.add_argument("names", nargs="+", metavar="NAME", help="name of a daemon, or @GROUP")
    _wait(command, WAIT_S, "maximum time to wait for the result (default: 600; 0: do not wait)")


def _logs(command: _Parser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="name of a daemon, or @GROUP (default: all)")
    command.add_argument(
        "-n",
        "--lines",
        dest="lines",
        type=values.count,
        metavar="LINES",
        help="number of lines to show of each daemon (default: 100 of one, 20 of each of several)",
    )
    command.add_argument("-f", "--follow", dest="follow", action="store_true", help="follow new output")


def _events(command: _Parser) -> None:
    command.add_argument(
        "-n",
        "--lines",
        dest="lines",
        type=values.count,
        default=50,
        metavar="COUNT",
        help="number of events to show (default: 50)",
    )
    command.add_argument("-f", "--follow", dest="follow", action="store_true", help="follow new events")
    command.add_argument("--json", action="store_true", help="print one JSON object per line")


def _why(command: _Parser) -> None:
    command.add_argument("name", metavar="NAME", help="name of the daemon")
    command.add_argument("--json", action="store_true", help="print JSON")


def _reload(command: _Parser) -> None:
    command.add_argument("--dry-run", action="store_true", help="show what would change without doing it")


def _snapshot(command: _Parser) -> None:
    command.add_argument("name", metavar="NAME", help="name of the daemon")
    command.add_argument(
        "file",
        nargs="?",
        type=values.file,
        metavar="FILE",
        help="file to write (default: a new one in snapshots/ of the state directory)",
    )
    command.add_argument(
        "--force", action="store_true", help="also if the data is empty, or a count fell by more than half"
    )
    _wait(command, WAIT_S, "maximum time to wait for the daemon to stop, and to start again (default: 600)")


def _restore(command: _Parser) -> None:
    command.add_argument("name", metavar="NAME", help="name of the daemon")
    command.add_argument("file", type=values.file, metavar="FILE", help="snapshot to restore")
    command.add_argument("--force", action="store_true", help="also if it is a snapshot of another daemon")
    _wait(command, WAIT_S, "maximum time to wait for the daemon to stop, and to start again (default: 600)")


def _env(command: _Parser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="name of a daemon, or @GROUP (default: all)")
    command.add_argument(
        "--format",
        choices=("sh", "fish", "dotenv", "json", "github"),
        default="sh",
        help='how to print them (default: sh, for `eval "$(neo-daemons env)"`; github: for the file $GITHUB_ENV)',
    )


def _exec(command: _Parser) -> None:
    command.add_argument(
        "--with",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="a daemon, or @GROUP, that the command uses (repeatable; default: all that are enabled)",
    )
    command.add_argument(
        "--isolated",
        action="store_true",
        help="start daemons for this command alone, with data and ports of their own, and delete the data afterwards",
    )
    _wait(command, WAIT_S, "maximum time to wait for readiness (default: 600)")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")


def _sessions(command: _Parser) -> None:
    command.add_argument("names", nargs="*", metavar="NAME", help="name of a session (default: all)")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--end", action="store_true", help="end them, with their daemons and data")
    what.add_argument("--json", action="store_true", help="print JSON")


def _mcp(command: _Parser) -> None:
    command.add_argument(
        "--allow-control",
        action="store_true",
        help="also offer tools that start, stop, restart, hold, release and reload (default: only tools that read)",
    )
    command.add_argument(
        "connect",
        nargs="*",
        metavar="connect NAME",
        help="pass messages between standard input and output and the daemon NAME, an MCP server over HTTP, and keep "
        "it running meanwhile",
    )


def _init(command: _Parser) -> None:
    command.add_argument("--dry-run", action="store_true", help="print the file instead of writing it")


def _schema(command: _Parser) -> None:
    command.add_argument(
        "--pyproject", action="store_true", help="that of a pyproject.toml: its table [tool.neo_daemons] is checked"
    )
    command.add_argument(
        "-o", dest="output", type=values.file, metavar="FILE", help="file to write (default: print it)"
    )


def _completion(command: _Parser) -> None:
    command.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")


def _wait(command: _Parser, default: float, text: str) -> None:
    command.add_argument("--wait", type=values.seconds, default=default, metavar="SECONDS", help=text)


COMMANDS: dict[str, tuple[str, Callable[[_Parser], None]]] = {
    "init": ("write a first neo-daemons.toml, from what this project says about its daemons", _init),
    "serve": ("run the supervisor in the foreground", _serve),
    "up": ("start the supervisor in the background and wait until the daemons are ready", _up),
    "down": ("stop the supervisor and its daemons, and wait until they are gone", _down),
    "status": ("show the state of the daemons", _status),
    "health": ("check the daemons from outside, with or without a supervisor (read-only)", _health),
    "start": ("start daemons, including parked ones", _order),
    "stop": ("stop daemons and keep them stopped until started again", _order),
    "restart": ("stop and start daemons", _order),
    "hold": ("put daemons on hold: do not restart them after they exit", _order),
    "release": ("end the hold on daemons, and start those that are down because of it", _order),
    "logs": ("show the log of a daemon, or those of several, merged by time", _logs),
    "events": ("show the latest events", _events),
    "why": ("explain why a daemon is in its current state", _why),
    "env": ("print the environment variables by which programs find the daemons", _env),
    "mcp": ("serve MCP to an agent over standard input and output: this project's daemons, or one of them", _mcp),
    "exec": ("run a command while the daemons that it uses are running, with their variables", _exec),
    "render": ("write files with which another engine runs the daemons, or the supervisor", engine_options.render),
    "schema": ("print the JSON schema of the configuration, for editors", _schema),
    "completion": ("print what a shell needs to complete commands, options and names of daemons", _completion),
    "reload": ("reload the configuration and restart only the daemons that changed", _reload),
    "snapshot": ("write the data of a daemon into one file; the daemon is stopped while it is copied", _snapshot),
    "restore": ("replace the data of a daemon by that of a snapshot; the old data is set aside", _restore),
    "doctor": (
        "diagnose installations, ports, directories, stale records and orphaned processes (read-only)",
        _doctor,
    ),
    "reap": (
        "stop processes that an earlier supervisor left behind; list those whose ownership is unproven",
        _no_more,
    ),
    "enable": (
        "have systemd or launchd start the supervisor and keep it up; asks before it does",
        engine_options.enable,
    ),
    "disable": ("undo `enable`: stop the supervisor and remove the service", engine_options.disable),
    "sessions": ("list the test sessions that `pytest --neo-daemons-keep` keeps warm, or end them", _sessions),
}
"""Name → what it does, and the function that adds its options."""
ALONE = ("--help", "--version")
"""Options that need no command."""
WITHOUT_PROJECT = frozenset({"init", "schema", "completion"})
"""Commands that do not look for a configuration or a supervisor."""
