"""Completion by the shell: what can follow on a command line, by argcomplete.

The shell runs this program for each Tab. Names are those of the configuration, so no supervisor is asked.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from argcomplete import autocomplete
from argcomplete.completers import SuppressCompleter
from argcomplete.shell_integration import shellcode

from neo_daemons.config.errors import ConfigError
from neo_daemons.config.locate import find_source
from neo_daemons.config.source import read

from .codes import DONE
from .parser import COMMANDS, command_parser
from .selection import MARK

PROGRAM = "neo-daemons"
BREAKS = "_ARGCOMPLETE_COMP_WORDBREAKS"
"""What the shell code of argcomplete tells of bash's ``COMP_WORDBREAKS``."""
WITH_GROUPS = frozenset({"up", "start", "stop", "restart", "hold", "release", "logs", "env", "exec"})
NAMED_OTHERWISE = frozenset({"enable", "sessions"})
"""Commands whose NAME is not that of a daemon."""
NUMBERS = ("SECONDS", "LINES", "COUNT", "[HOST:]PORT", "[NAME=]URL")


def completion(options: argparse.Namespace) -> int:
    """Print what a shell needs for completion."""
    print(shellcode([PROGRAM], shell=options.shell))
    return DONE


def complete() -> None:
    """Answer the shell that asks for completions, and exit."""
    line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", "")
    before = line[: int(point)] if point.isdecimal() else line
    words = before.split()
    stated = words[1:2] if len(words) > 2 or (len(words) == 2 and before[-1:].isspace()) else []
    known = [word for word in stated if word in COMMANDS]
    parser = command_parser(known)
    for command in known:
        _name_completers(command, _parser_of(command, parser))
    if BREAKS in os.environ:
        # An @ breaks words for bash, but one that begins a word is replaced with it.
        os.environ[BREAKS] = os.environ[BREAKS].replace(MARK, "")
    autocomplete(parser, always_complete_options=False)


def _parser_of(command: str, parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    found: argparse.ArgumentParser = commands[command]
    return found


def _name_completers(command: str, parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:  # argparse offers no other way to its options
        completer: Any = None
        if action.metavar == "NAME" and command not in NAMED_OTHERWISE:
            groups = command in WITH_GROUPS or bool({"--only", "--require"}.intersection(action.option_strings))
            completer = _Names(groups=groups)
        elif action.metavar == "connect NAME":
            completer = _Names(groups=False, others=["connect"])
        elif action.metavar in NUMBERS or action.metavar == "NAME":
            completer = SuppressCompleter()
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]


class _Names:
    """Completes names of daemons.

    Args:
        groups: also those of groups.
        others: what else can stand there.
    """

    def __init__(self, *, groups: bool, others: Iterable[str] = ()) -> None:
        self._groups = groups
        self._others = list(others)

    def __call__(self, *, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        names, groups = configured(getattr(parsed_args, "config", None))
        return [*self._others, *names, *([f"{MARK}{group}" for group in groups] if self._groups else ())]


def configured(file: Path | None) -> tuple[list[str], list[str]]:
    """Return the names of the daemons in a project's configuration, and those of their groups."""
    try:
        source, _ = find_source(file)
        tables = read(source).get("daemons") if source is not None else None
    except ConfigError:
        return [], []
    if not isinstance(tables, dict):
        from neo_daemons.config.builtins import BUILTINS

        return [name for name, builtin in BUILTINS.items() if builtin.by_default], []
    stated = [table.get("groups") for table in tables.values() if isinstance(table, dict)]
    groups = [group for one in stated if isinstance(one, list) for group in one if isinstance(group, str)]
    return [*tables], list(dict.fromkeys(groups))
