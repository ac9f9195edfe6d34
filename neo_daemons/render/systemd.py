"""A systemd unit for the supervisor of a project. Its daemons are not units: the supervisor starts them.

The words of a command are quoted as systemd.syntax(7) and systemd.service(5) say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from neo_daemons.state_dir import DEFAULT_NAME

from .installation import HEADER, Installation, NotExpressible

PLAIN = re.compile(r"[A-Za-z0-9_./:,+=@-]+")
"""Words that mean the same without quotes."""
UNQUOTABLE = frozenset("'\"\\")
"""systemd refuses a program whose path has one of these (string_is_safe in its source), however it is quoted. env(1)
runs it, unless it takes the path for an assignment."""


def render(installation: Installation, head: str = HEADER) -> dict[str, str]:
    """Return the unit: file name → text, which begins with the comment `head`.

    Raises:
        NotExpressible: systemd cannot run the interpreter.
    """
    name = f"{installation.name}.service"
    return {name: "\n".join(_lines(installation, name, head)) + "\n"}


def _lines(installation: Installation, name: str, head: str) -> Iterable[str]:
    of = "" if installation.machine else "--user "
    yield f"# {head}"
    yield f"# To change it, use `systemctl {of}edit {name}`: this file is written anew."
    yield ""
    yield "[Unit]"
    yield f"Description=Supervisor of the daemons in {_specifiers(installation.root)} (neo-daemons)"
    if installation.state_dir != f"{installation.root.rstrip('/')}/{DEFAULT_NAME}":
        yield f"RequiresMountsFor={_quote(installation.state_dir)}"
    if installation.machine:
        yield "# The first start may have to fetch something."
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    yield "# A supervisor that keeps crashing is started again forever: its daemons are running, and need one."
    yield "StartLimitIntervalSec=0"
    yield ""
    yield "[Service]"
    yield "# Ready when each daemon that starts with the supervisor is ready, or has failed."
    yield "Type=notify"
    yield "NotifyAccess=main"
    yield f"ExecStart={_command(installation.command('serve'))}"
    yield f"ExecReload={_command(installation.command('reload'))}"
    yield f"WorkingDirectory={_directory(installation.root)}"
    for variable, value in sorted(installation.env.items()):
        yield f"Environment={_quote(f'{variable}={value}')}"
    if installation.account is not None:
        yield f"User={_specifiers(installation.account)}"
    yield "# After a crash the daemons go on, and the next supervisor adopts them. A stop is the supervisor's own work."
    yield "KillMode=process"
    yield "Restart=on-failure"
    yield "RestartSec=2"
    yield "# A broken configuration, another supervisor, a required daemon that cannot run: a restart changes nothing."
    yield "RestartPreventExitStatus=2 4 5"
    yield "# While it makes progress, the supervisor asks for more time; these end one that does not."
    yield "TimeoutStartSec=60"
    yield "TimeoutStopSec=60"
    yield "WatchdogSec=60"
    yield "# The supervisor restarts a daemon that the OOM killer has ended."
    yield "OOMPolicy=continue"
    yield ""
    yield "[Install]"
    yield f"WantedBy={target(machine=installation.machine)}"


def target(*, machine: bool) -> str:
    """Return the target that starts the unit."""
    return "multi-user.target" if machine else "default.target"


def _command(words: list[str]) -> str:
    if UNQUOTABLE & set(words[0]):
        if "=" in words[0]:
            raise NotExpressible(f"systemd cannot run {words[0]!r}; use a path without quotes and backslashes")
        words = ["/usr/bin/env", *words]
    program, *arguments = words
    # With the colon, systemd replaces no $NAME. It would do so even in the program's name for itself (argv[0]), by
    # which Python finds its environment, and there is no other way to prevent that.
    return " ".join([_quote(f":{program}"), *map(_quote, arguments)])


def _quote(text: str) -> str:
    """Quote a word of a command, an assignment or a list of paths, if it needs that."""
    if PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_specifiers(escaped)}"'


def _directory(path: str) -> str:
    """Return a path as it stands for itself, without quotes: there, a blank or a backslash at the end of the line would
    not be part of it."""
    return _specifiers(path) + "/" * (path[-1].isspace() or path.endswith("\\"))


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
