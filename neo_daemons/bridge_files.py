"""Where the bridge, the wake daemon of neo.mjs, keeps its state, by the names that its versions have given it."""

from __future__ import annotations

SCRIPTS = ("ai/daemons/wake/daemon.mjs", "ai/daemons/bridge/daemon.mjs", "ai/scripts/bridge-daemon.mjs")
"""Its program in a checkout, newest first."""

DAEMON_DIR_VARIABLE = "NEO_AI_DAEMON_DIR"
"""Environment variable that names its own directory."""
DATABASE_VARIABLE = "NEO_MEMORY_DB_PATH"
"""Environment variable that names the graph database (from 13.x on)."""
OLD_DATABASE_VARIABLE = "NEO_AI_DB_PATH"
"""The same in older checkouts."""

# In its own directory
PID_FILES = ("wake-daemon.pid", "bridge-daemon.pid")
"""Its own PID file, newest name first. It ends at its start where the file is garbled."""
LOG_FILE = "wake-daemon.log"
"""Where it logs its deliveries."""
POSITION_FILE = "lastSyncId"
"""The entry of the graph's log that it has got to. Missing until it has had one."""
STARTED = r"Started\. Tail-syncing from GraphLog ID"
"""Regular expression of the line that it prints once it is ready."""

# In the graph database
NODES = "Nodes"
EDGES = "Edges"
LOG_END_QUERY = "SELECT MAX(log_id) FROM GraphLog"
"""The end of the log that it tails."""
POLL_S = 3.0
"""How often it looks there. It swallows the errors of its polls."""
STUCK_S = 30.0
"""Behind for so long without a step, it does not work."""
