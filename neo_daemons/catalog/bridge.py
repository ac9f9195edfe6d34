"""bridge: the wake daemon of neo.mjs. It has no port: it tails the log of a SQLite graph and delivers messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neo_daemons.bridge_files import (
    DAEMON_DIR_VARIABLE,
    DATABASE_VARIABLE,
    LOG_END_QUERY,
    OLD_DATABASE_VARIABLE,
    PID_FILES,
    POSITION_FILE,
    STARTED,
    STUCK_S,
)
from neo_daemons.definitions import Definition, Launch, Step, Unavailable
from neo_daemons.references import escape

from . import neo_mjs
from .project import Project

OPTIONS = {**neo_mjs.OPTIONS, "database": "path of the graph database (made if missing)"}
DATABASE = "${data_dir}/memory-core-graph.sqlite"
DAEMON_DIR = "${data_dir}/wake-daemon"
"""Its own state: never shared with the supervisor's files, or it would take our PID file for its own."""


def settings(options: Mapping[str, str]) -> dict[str, Any]:
    """Its defaults. It swallows the errors of its polls, so being alive says nothing: its position must keep up."""
    database = _database(options)
    return {
        "data_dir": "${state_dir}/data/bridge",
        "ready": {"type": "log", "pattern": STARTED},
        "live": {
            "type": "file",
            "path": f"{DAEMON_DIR}/{POSITION_FILE}",
            "database": database,
            "query": LOG_END_QUERY,
            "within_s": STUCK_S,
            "interval_s": 5.0,
        },
        "exports": {DAEMON_DIR_VARIABLE: DAEMON_DIR, DATABASE_VARIABLE: database},
    }


def _database(options: Mapping[str, str]) -> str:
    return escape(options["database"]) if "database" in options else DATABASE


def locate(definition: Definition, project: Project) -> Launch | Unavailable:
    """Find a checkout, or the provision that makes one."""
    found = neo_mjs.find(neo_mjs.WAKE_SCRIPTS, definition, project)
    if isinstance(found, Unavailable):
        return found
    database = _database(definition.options)
    init = Step(
        title="making the graph database",
        command=(*(escape(str(path)) for path in (found.node, neo_mjs.INIT_GRAPH, found.home)), database),
        creates=database,
        telling=neo_mjs.NODE_TELLS,
    )
    return Launch(
        command=(escape(str(found.node)), escape(str(found.script))),
        env={DAEMON_DIR_VARIABLE: DAEMON_DIR, DATABASE_VARIABLE: database, OLD_DATABASE_VARIABLE: database},
        version=found.version,
        note=found.note,
        provisions=found.provisions,
        before=(init,),
        # After a kill it would take whoever has its old pid for its predecessor and, where it cannot tell, end it;
        # and a garbled file stops it for ever.
        stale_files=tuple(f"{DAEMON_DIR}/{name}" for name in PID_FILES),
    )
