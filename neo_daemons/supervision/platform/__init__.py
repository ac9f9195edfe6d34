"""The operating system behind one contract: spawn, wait, signal, identity, locks, ports."""

from __future__ import annotations

import os
import sys

from neo_daemons import procfs
from neo_daemons.state_dir import StateDirError

from .contract import (
    MARK_VARIABLE,
    ExitStatus,
    FileChanges,
    Lock,
    Mark,
    NotOurs,
    Platform,
    PortHolder,
    Process,
    SpawnSpec,
    Unverifiable,
    Usage,
)

__all__ = [
    "MARK_VARIABLE",
    "PLATFORM_VARIABLE",
    "ExitStatus",
    "FileChanges",
    "Lock",
    "Mark",
    "NotOurs",
    "Platform",
    "PortHolder",
    "Process",
    "SpawnSpec",
    "Unverifiable",
    "Usage",
    "current_platform",
    "platform_choice",
]


PLATFORM_VARIABLE = "NEO_DAEMONS_PLATFORM"
"""Environment variable that forces an implementation, for tests: one of `PLATFORMS`."""
PLATFORMS = ("linux", "linux-without-pidfds", "posix")


class UnknownPlatform(StateDirError):
    """The environment names an implementation that does not exist."""


class NoProcfs(StateDirError):
    """This is Linux, but its ``/proc`` is missing or shows other processes than ours."""


def platform_choice() -> tuple[str, str | None]:
    """Return which of `PLATFORMS` this machine has, and why it is not the best one; None if it is.

    Raises:
        UnknownPlatform: the environment names another one.
    """
    forced = os.environ.get(PLATFORM_VARIABLE)
    if forced:
        if forced not in PLATFORMS or (forced != "posix" and sys.platform != "linux"):
            raise UnknownPlatform(f"{PLATFORM_VARIABLE}={forced}: unknown; unset it, or use {', '.join(PLATFORMS)}")
        return forced, f"{PLATFORM_VARIABLE} says so"
    if sys.platform != "linux":
        return "posix", f"{sys.platform} has no implementation of its own"
    from .linux import LinuxPlatform

    lack = LinuxPlatform.lack_of_pidfds()
    return ("linux", None) if lack is None else ("linux-without-pidfds", lack)


def current_platform() -> Platform:
    """The implementation for this machine: pidfds where the kernel has them, psutil where there is no Linux.

    Raises:
        UnknownPlatform: the environment names one that does not exist.
        NoProcfs: this is Linux, and processes cannot be told apart.
    """
    name, _ = platform_choice()
    fault = procfs.fault() if sys.platform == "linux" else None
    if fault is not None:
        raise NoProcfs(f"{fault}; without it processes cannot be told apart: mount it (mount -t proc proc /proc)")
    if name == "posix":
        from .posix import PosixPlatform

        return PosixPlatform()
    from .linux import LinuxPlatform

    return LinuxPlatform(pidfds=name == "linux")
