"""Checks of daemons with ``share = false``, of which each client has a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from neo_daemons.definitions import Definition

from .builtins import BUILTINS
from .messages import join
from .reader import Reader
from .schema import Settings

MAX_NAME = 58
"""Of a template, in characters: its instances have a dash and a number more."""
NOT_ALLOWED = {
    "external": "remove it, or remove share",
    "oneshot": "remove it, or remove share",
    "watch": "remove it: a restart would take the process away from its client",
    "exports": "remove it: there is no address that all programs could use",
    "idle_stop_s": "remove it: each process ends with its client",
    "data_dir": "put a path into command: a data directory has one user at a time",
}
"""What makes no sense for a daemon that is not shared, and what to do instead."""
NOT_OF_STDIO = {
    "ready": "remove it, or add port",
    "live": "remove it, or add port",
    "url": 'add port = "auto"',
    "restart": "remove it: its client starts a new one",
    "user": "remove it: its socket is private to the user of the supervisor",
}
"""What makes no sense if it also has no port, and so talks to its client over standard input and output."""


def check_not_shared(reader: Reader, name: str, own: Mapping[str, Any], settings: Settings) -> None:
    """Check that the other keys make sense for a daemon that is not shared.

    Args:
        own: the table in the file.
        settings: the same, completed.
    """
    if name in BUILTINS and not settings.command:
        reader.fault_of(name, "share", False, "a built-in daemon is shared", "remove it, or give it a command")
    if len(name) > MAX_NAME:
        remedy = f"use at most {MAX_NAME} characters: the name of each process is longer"
        reader.fault_of(name, "share", False, "the daemon's name is too long for it", remedy)
    for key, remedy in NOT_ALLOWED.items():
        if own.get(key):
            reader.fault_of(name, key, own[key], "not allowed with share = false", remedy)
    if own.get("start") == "always":
        reader.fault_of(name, "start", "always", "not allowed with share = false", "remove it: clients start it")
    stated = {"port": settings.port} if settings.port is not None else settings.ports
    for port, number in stated.items():
        key = port if port == "port" else f"ports.{port}"
        if number != "auto":
            reader.fault_of(name, key, number, "not allowed with share = false", 'use "auto": each process has its own')
    for key, remedy in NOT_OF_STDIO.items() if not stated else ():
        if own.get(key):
            problem = "not allowed with share = false and without a port"
            reader.fault_of(name, key, own[key], problem, remedy)


def check_templates(reader: Reader, definitions: Mapping[str, Definition]) -> None:
    """Check that no daemon waits for one that is not shared, or has the name of one of its processes."""
    templates = {name for name, definition in definitions.items() if definition.is_template}
    for name, definition in definitions.items() if templates else ():
        stem, _, number = name.rpartition("-")
        if stem in templates and number.isdecimal() and number.isascii():
            problem = f"could be the name of a process of {stem}, which has share = false"
            reader.fault(join("daemons", name), UNSET, problem, "choose another name, e.g. without the number")
        for other in sorted(templates.intersection(definition.requires + definition.after) - {name}):
            key = next((key for key in ("requires", "after") if other in getattr(definition, key)), "after")
            problem = f"{other} has a process for each client (share = false), and none for other daemons"
            reader.fault_of(name, key, other, problem, "remove it, or remove share there")
