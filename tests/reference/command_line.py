"""The reference of the command line, from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from neo_daemons.cli.parser import COMMANDS, WITHOUT_PROJECT, command_parser

from .source import code, members_with_values, one_line, table

HIDDEN = ("--help", "--config", "--state-dir")
"""Options of all commands, which are described once."""


def page() -> str:
    """Return the page."""
    parts = [
        "# Command line",
        "`neo-daemons COMMAND` is the same as `python -m neo_daemons COMMAND`. `COMMAND --help` shows all of this.",
        table(
            ("command", "what it does"),
            ((f"[`{name}`](#{name})", one_line(text)) for name, (text, _) in COMMANDS.items()),
        ),
        f"Every command has these options, but {_listed(WITHOUT_PROJECT)} only `--help`:",
        _options(_of(next(name for name in COMMANDS if name not in WITHOUT_PROJECT)), shared=True),
        *(_command(name) for name in COMMANDS),
        "## Exit codes",
        table(("code", "meaning"), members_with_values("neo_daemons.cli.codes")),
    ]
    return "\n\n".join(part.rstrip() for part in parts)


def _listed(names: Iterable[str]) -> str:
    *others, last = (f"`{name}`" for name in sorted(names))
    return f"{', '.join(others)} and {last}"


def _of(name: str) -> argparse.ArgumentParser:
    parser = command_parser([name])
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    found: argparse.ArgumentParser = subparsers.choices[name]
    return found


def _command(name: str) -> str:
    parser = _of(name)
    text = (parser.description or "").strip()
    parts = [f"## {name}", f"{text[:1].upper()}{text[1:]}.", f"```text\n{_usage(name, parser)}\n```"]
    options = _options(parser)
    if options:
        parts.append(options)
    if parser.epilog:
        epilog = parser.epilog.strip()
        parts.append(f"```text\n{epilog}\n```" if "\n" in epilog else epilog)
    return "\n\n".join(part.rstrip() for part in parts)


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    positional = [_positional(action) for action in parser._actions if not action.option_strings]
    return " ".join([f"neo-daemons {name}", "[OPTIONS]", *positional])


def _positional(action: argparse.Action) -> str:
    shown = action.metavar if isinstance(action.metavar, str) else action.dest
    match action.nargs:
        case "*":
            return f"[{shown} …]"
        case "+":
            return f"{shown} [{shown} …]"
        case "?":
            return f"[{shown}]"
        case _:
            return shown


def _options(parser: argparse.ArgumentParser, *, shared: bool = False) -> str:
    rows = [
        (_names(action), one_line(action.help or ""))
        for action in parser._actions
        if action.help != argparse.SUPPRESS and any(one in HIDDEN for one in action.option_strings) is shared
    ]
    return table(("option", "meaning"), rows) if rows else ""


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(action.metavar if isinstance(action.metavar, str) else action.dest)
    value = ""
    if action.nargs != 0:
        value = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
        value = f" [{value}]" if action.nargs == "?" else f" {value}"
    return ", ".join(code(f"{option}{value}") for option in action.option_strings)
