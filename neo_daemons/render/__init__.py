"""Renders the definitions of a project for engines that run them elsewhere. Pure: nothing is started or written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from .installation import Installation
from .stack import Faults, Stack
from .workload import Plan, plan

RenderService = Callable[[Installation, str], dict[str, str]]
Render = Callable[[Plan, tuple[str, ...], Faults], dict[str, str]]
TARGETS = ("compose", "kubernetes")
"""The engines that run each daemon in a container; each has a module here."""
SERVICE_MANAGERS = ("systemd", "launchd")
"""The engines that run the supervisor; each has a module here."""
MARK = "Written by `neo-daemons render"
"""What the first line of a rendered file holds."""


def head(target: str) -> str:
    """Return the first line of what is rendered for an engine."""
    return f"{MARK} {target}`: change the definitions, and render again."


def render(target: str, stack: Stack) -> Mapping[str, str]:
    """Return the files for an engine: path → content.

    Raises:
        ConfigError: something cannot be said to the engine; each line names the key that mends it.
    """
    faults = Faults(stack)
    found = plan(stack, faults)
    function: Render = import_module(f"{__name__}.{target}").render
    files = function(found, (head(target),), faults)
    faults.raise_all()
    return files


def render_service(target: str, installation: Installation) -> Mapping[str, str]:
    """Return the file with which a service manager runs the supervisor: path → content.

    Raises:
        NotExpressible: the service manager cannot run it.
    """
    function: RenderService = import_module(f"{__name__}.{target}").render
    return function(installation, head(target))
