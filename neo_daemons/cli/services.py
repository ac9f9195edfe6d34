"""The file and the commands with which systemd, or launchd on macOS, runs a supervisor."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from neo_daemons.accounts import user_name
from neo_daemons.render import launchd, systemd
from neo_daemons.render.installation import Installation

Command = tuple[str, ...]
SYSTEM_UNITS = Path("/etc/systemd/system")
LINGERING = Path("/var/lib/systemd/linger")
LINGER = "it runs while you are logged in; `loginctl enable-linger` has it run from boot to shutdown"


class CannotInstall(Exception):
    """A supervisor cannot be installed, or removed; ``str()`` says why, and what to do."""


class Service(Struct, frozen=True, kw_only=True):
    """A supervisor as its service manager knows it: a file, and commands."""

    manager: str
    render: Callable[[Installation], Mapping[str, str]]
    path: Path
    """The file that describes it."""
    links: tuple[Path, ...] = ()
    """What `load` creates, and `unload` removes."""
    is_loaded: Command
    """Exits with 0 if the service is running, or the manager keeps it running."""
    load: tuple[Command, ...]
    """Makes the manager read the file, and start the service each time that it starts itself."""
    unload: Command
    """Stops the service, and undoes `load`."""
    start: Command
    restart: Command | None = None
    """Starts it in the place of one that is about to end; None: `unload` it, and start it."""
    has_failed: Command | None = None
    """Exits with 0 if the manager remembers a failure, which `forget` makes it forget."""
    forget: Command | None = None
    """Makes it forget a failure."""
    removed: tuple[Command, ...] = ()
    """To be run after the file was removed."""
    remark: str | None = None
    """What the user should know of what has been installed."""


def find(name: str, *, machine: bool, environ: Mapping[str, str], platform: str = sys.platform) -> Service:
    """Return the service of a name, for this user or for the whole machine.

    Raises:
        CannotInstall: the place of its file is unknown.
    """
    if platform != "darwin":
        return _systemd(name, SYSTEM_UNITS if machine else _user_units(environ), machine=machine)
    if machine:
        raise CannotInstall("--system needs systemd; leave it out, and launchd starts the supervisor when you log in")
    return _launchd(name, _home(environ) / "Library/LaunchAgents")


def _systemd(name: str, directory: Path, *, machine: bool) -> Service:
    unit = f"{name}.service"
    control = ("systemctl",) if machine else ("systemctl", "--user")
    return Service(
        manager="systemd",
        render=systemd.render,
        path=directory / unit,
        links=(directory / f"{systemd.target(machine=machine)}.wants" / unit,),
        is_loaded=(*control, "is-active", "--quiet", unit),
        load=((*control, "daemon-reload"), (*control, "enable", unit)),
        unload=(*control, "disable", "--now", unit),
        start=(*control, "start", unit),
        restart=(*control, "restart", unit),
        has_failed=(*control, "is-failed", "--quiet", unit),
        forget=(*control, "reset-failed", unit),
        removed=((*control, "daemon-reload"),),
        remark=None if machine or _lingers() else LINGER,
    )


def _lingers() -> bool:
    """Return whether this user's systemd runs without a login."""
    return (LINGERING / user_name(os.getuid())).exists()


def _launchd(label: str, directory: Path) -> Service:
    domain, path = f"gui/{os.getuid()}", directory / f"{label}.plist"
    return Service(
        manager="launchd",
        render=launchd.render,
        path=path,
        is_loaded=("launchctl", "print", f"{domain}/{label}"),
        load=(("launchctl", "enable", f"{domain}/{label}"),),
        unload=("launchctl", "bootout", f"{domain}/{label}"),
        start=("launchctl", "bootstrap", domain, str(path)),
    )


def _user_units(environ: Mapping[str, str]) -> Path:
    """Return the directory of this user's own units. A relative path is to be ignored, says the XDG specification."""
    stated = environ.get("XDG_CONFIG_HOME", "")
    return (Path(stated) if stated.startswith("/") else _home(environ) / ".config") / "systemd/user"


def _home(environ: Mapping[str, str]) -> Path:
    stated = environ.get("HOME", "")
    if not stated.startswith("/"):
        try:
            stated = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            stated = ""
    if not stated.startswith("/"):
        raise CannotInstall(f"user id {os.getuid()} has no home directory; set HOME to one")
    return Path(stated)
