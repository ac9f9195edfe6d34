"""File, table and variable names of the bridge, the wake daemon of neo.mjs, in its various versions."""

from __future__ import annotations

SCRIPTS = ("ai/daemons/wake/daemon.mjs", "ai/daemons/bridge/daemon.mjs", "ai/scripts/bridge-daemon.mjs")
"""Its program in a checkout, newest first."""

DAEMON_DIR_VARIABLE = "NEO_AI_DAEMON_DIR"
"""The environment variable for its state directory."""
DATABASE_VARIABLE = "NEO_MEMORY_DB_PATH"
"""The environment variable for the graph database (from 13.x on)."""
OLD_DATABASE_VARIABLE = "NEO_AI_DB_PATH"
"""The same in older checkouts."""

# In its own directory
PID_FILES = ("wake-daemon.pid", "bridge-daemon.pid")
"""Its own PID file, newest name first. The bridge exits at its start if the file is garbled."""
LOG_FILE = "wake-daemon.log"
"""Where it logs its deliveries."""
POSITION_FILE = "lastSyncId"
"""Holds the last entry of the graph's log that it has processed; missing until there is one."""
STARTED = r"Started\. Tail-syncing from GraphLog ID"
"""Regular expression of the line that it prints once it is ready."""

# In the graph database
NODES = "Nodes"
EDGES = "Edges"
LOG_END_QUERY = "SELECT MAX(log_id) FROM GraphLog"
"""The end of the log that it tails."""
POLL_S = 3.0
"""The interval of its polls. It swallows their errors."""
STUCK_S = 30.0
"""The bridge does not work if it is behind and makes no progress for so long."""
