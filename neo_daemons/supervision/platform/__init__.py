"""The operating system behind one contract: spawn, wait, signal, identity, locks, ports."""

from __future__ import annotations

import sys

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
]


def current_platform() -> Platform:
    """The implementation for this machine: pidfds where the kernel has them, psutil elsewhere."""
    if sys.platform == "linux":
        from .linux import LinuxPlatform

        if LinuxPlatform.is_supported():
            return LinuxPlatform()
    from .posix import PosixPlatform

    return PosixPlatform()
