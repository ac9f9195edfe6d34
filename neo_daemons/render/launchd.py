"""A launchd agent for the supervisor of a project: a property list as launchd.plist(5) describes it."""

from __future__ import annotations

import plistlib
from typing import Any

from .installation import HEADER, Installation

THROTTLE_S = 30
"""launchd cannot be told which exit codes are final, so a supervisor with a broken configuration is started again and
again: not more often than this."""
EXIT_S = 300
"""How long a stop may take. A supervisor cannot ask launchd for more time, so this is more than most daemons need."""
DOCTYPE = b'"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'


def render(installation: Installation, head: str = HEADER) -> dict[str, str]:
    """Return the property list: file name → text, which begins with the comment `head`. The directory of its log, the
    state directory, must exist when it is loaded."""
    log = f"{installation.state_dir}/supervisor.log"
    content: dict[str, Any] = {
        "Label": installation.name,
        "ProgramArguments": installation.command("serve"),
        "WorkingDirectory": installation.root,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},  # not after `down` or a takeover
        "AbandonProcessGroup": True,  # after a crash the daemons go on, and the next supervisor adopts them
        "ProcessType": "Interactive",  # others are slowed down by the system, and their daemons with them
        "ThrottleInterval": THROTTLE_S,
        "ExitTimeOut": EXIT_S,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if installation.env:
        content["EnvironmentVariables"] = dict(sorted(installation.env.items()))
    data = plistlib.dumps(content)
    return {f"{installation.name}.plist": data.replace(DOCTYPE, DOCTYPE + f"<!-- {head} -->\n".encode(), 1).decode()}
