"""Locates bridge, the wake daemon of neo.mjs. It has no port: it tails the log of a SQLite graph and sends messages."""

from __future__ import annotations

from neo_daemons.bridge_files import DAEMON_DIR_VARIABLE, DATABASE_VARIABLE, OLD_DATABASE_VARIABLE, PID_FILES
from neo_daemons.config.builtins import BRIDGE_DIR, bridge_database
from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch, Step
from neo_daemons.references import escape

from . import neo_mjs


def locate(definition: Definition, project: Project) -> Launch | CannotRun:
    """Find a checkout, or the provision that creates one."""
    found = neo_mjs.find(neo_mjs.WAKE_SCRIPTS, definition, project)
    if isinstance(found, CannotRun):
        return found
    database = bridge_database(definition.options)
    init = Step(
        title="creating the graph database",
        command=(*(escape(str(path)) for path in (found.node, neo_mjs.INIT_GRAPH, found.home)), database),
        creates=database,
        telling=neo_mjs.NODE_TELLS,
    )
    return Launch(
        command=(escape(str(found.node)), escape(str(found.script))),
        env={DAEMON_DIR_VARIABLE: BRIDGE_DIR, DATABASE_VARIABLE: database, OLD_DATABASE_VARIABLE: database},
        version=found.version,
        note=found.note,
        provisions=found.provisions,
        before=(init,),
        # After a kill it would mistake the process with its old pid for its predecessor and, if unsure, kill it;
        # and a damaged file would keep it from ever starting.
        stale_files=tuple(f"{BRIDGE_DIR}/{name}" for name in PID_FILES),
    )
