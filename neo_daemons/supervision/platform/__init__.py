"""The operating system behind one contract: spawn, wait, signal, identity, locks, ports."""

from __future__ import annotations

import os
import select
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
PLATFORMS = ("linux", "linux-without-pidfds", "darwin", "kqueue", "posix")


class UnknownPlatform(StateDirError):
    """The environment names an implementation that does not exist."""


class NoProcfs(StateDirError):
    """This is Linux, but its ``/proc`` is missing or shows other processes than ours."""


def platform_choice() -> tuple[str, str | None]:
    """Return which of `PLATFORMS` this machine has, and why it is not the best one; None if it is.

    Raises:
        UnknownPlatform: the environment names one that does not exist, or does not work here.
    """
    forced = os.environ.get(PLATFORM_VARIABLE)
    if forced:
        lack = _lack_of(forced)
        if lack is not None:
            raise UnknownPlatform(f"{PLATFORM_VARIABLE}={forced}: {lack}; unset it, or use {', '.join(_usable())}")
        return forced, f"{PLATFORM_VARIABLE} says so"
    if sys.platform == "darwin":
        lack = _lack_of("darwin")
        return ("darwin", None) if lack is None else ("posix" if _lack_of("kqueue") else "kqueue", lack)
    if sys.platform != "linux":
        name = "kqueue" if _lack_of("kqueue") is None else "posix"
        return name, f"{sys.platform} has no implementation of its own"
    from .linux import LinuxPlatform

    lack = LinuxPlatform.lack_of_pidfds()
    return ("linux", None) if lack is None else ("linux-without-pidfds", lack)


def _lack_of(name: str) -> str | None:
    """Say why a platform cannot be forced here; None if it can."""
    if name not in PLATFORMS:
        return "unknown"
    if name.startswith("linux") and sys.platform != "linux":
        return f"this is {sys.platform}"
    if name == "darwin" and sys.platform != "darwin":
        return f"this is {sys.platform}"
    if name == "darwin":
        from .darwin import lack_of_libproc

        return lack_of_libproc()
    if name == "kqueue" and not hasattr(select, "kqueue"):
        return "this system has no kqueue(2)"
    return None


def _usable() -> list[str]:
    return [name for name in PLATFORMS if _lack_of(name) is None]


def current_platform() -> Platform:
    """The implementation for this machine: by pidfds or kqueue where the kernel has them, else by psutil.

    Raises:
        UnknownPlatform: the environment names one that does not exist, or does not work here.
        NoProcfs: this is Linux, and processes cannot be told apart.
    """
    fault = procfs.fault() if sys.platform == "linux" else None
    if fault is not None:
        raise NoProcfs(f"{fault}; without it processes cannot be told apart: mount it (mount -t proc proc /proc)")
    name, reason = platform_choice()
    platform = _make(name)
    platform.reason = reason
    return platform


def _make(name: str) -> Platform:
    if name == "darwin":
        from .darwin import DarwinPlatform

        return DarwinPlatform()
    if name == "kqueue":
        from .kqueue import KqueuePlatform

        return KqueuePlatform()
    if name == "posix":
        from .posix import PosixPlatform

        return PosixPlatform()
    from .linux import LinuxPlatform

    return LinuxPlatform(pidfds=name == "linux")
