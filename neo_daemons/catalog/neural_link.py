"""Locates neural-link, the WebSocket bridge of neo.mjs. It is off by default because it listens on all interfaces."""

from __future__ import annotations

from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.references import escape

from . import neo_mjs


def locate(definition: Definition, project: Project) -> Launch | CannotRun:
    """Find a checkout, or the provision that creates one."""
    found = neo_mjs.find(neo_mjs.NEURAL_LINK_SCRIPTS, definition, project)
    if isinstance(found, CannotRun):
        return found
    note = "listens on all interfaces, regardless of the host setting"
    return Launch(
        command=(escape(str(found.node)), escape(str(found.script))),
        env={"NEO_NL_PORT": "${port}"},
        version=found.version,
        note=f"{note}; {found.note}" if found.note else note,
        provisions=found.provisions,
    )
