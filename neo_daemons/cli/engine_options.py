"""The options of commands that have other engines run the daemons, or a service manager the supervisor."""

from __future__ import annotations

import argparse

from . import values


def render(command: argparse.ArgumentParser) -> None:
    """Add the options of `render`."""
    command.add_argument(
        "target",
        choices=("compose", "kubernetes", "systemd", "launchd"),
        metavar="TARGET",
        help="compose: Docker Compose; kubernetes: manifests with a kustomization; systemd: a unit for the supervisor; "
        "launchd: an agent for it",
    )
    command.add_argument(
        "-o",
        dest="output",
        type=values.directory,
        metavar="DIR",
        help="directory to write to (default: standard output)",
    )
    command.add_argument(
        "--check", action="store_true", help="write nothing; fail if the files in DIR differ from the definitions"
    )


def enable(command: argparse.ArgumentParser) -> None:
    """Add the options of `enable`."""
    disable(command)
    command.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="a variable of this shell that the supervisor gets too (repeatable); its value is written into the file",
    )


def disable(command: argparse.ArgumentParser) -> None:
    """Add the options of `disable`."""
    command.add_argument(
        "--system",
        dest="machine",
        action="store_true",
        help="for the whole machine, as the user that owns the project (needs root; default: for you alone)",
    )
    command.add_argument("--dry-run", action="store_true", help="show what would be done without doing it")
    command.add_argument("--yes", action="store_true", help="do not ask")
