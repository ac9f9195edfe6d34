"""bridge: the wake daemon of neo.mjs. It has no port: it tails the log of a SQLite graph and delivers messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        "ready": {"type": "log", "pattern": r"Started\. Tail-syncing from GraphLog ID"},
        "live": {
            "type": "file",
            "path": f"{DAEMON_DIR}/lastSyncId",
            "database": database,
            "query": "SELECT MAX(log_id) FROM GraphLog",
            "within_s": 30.0,
            "interval_s": 5.0,
        },
        "exports": {"NEO_AI_DAEMON_DIR": DAEMON_DIR, "NEO_MEMORY_DB_PATH": database},
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
        # 13.x reads NEO_MEMORY_DB_PATH, older checkouts NEO_AI_DB_PATH.
        env={"NEO_AI_DAEMON_DIR": DAEMON_DIR, "NEO_MEMORY_DB_PATH": database, "NEO_AI_DB_PATH": database},
        version=found.version,
        note=found.note,
        provisions=found.provisions,
        before=(init,),
        # After a kill it would take whoever has its old pid for its predecessor and, where it cannot tell, end it;
        # and a garbled file stops it for ever.
        stale_files=(f"{DAEMON_DIR}/wake-daemon.pid", f"{DAEMON_DIR}/bridge-daemon.pid"),
    )
