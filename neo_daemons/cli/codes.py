"""The exit codes of the command line. The docstrings are their documentation."""

from __future__ import annotations

DONE = 0
"""Success."""
FAILED = 1
"""The operation failed: a command was refused, a daemon is not ready after `up`, `start` or `restart`, or at
`status --check`; `doctor` found a problem; `reload` found a configuration that cannot be used."""
USAGE = 2
"""Invalid usage, or a configuration, a state directory or a path that cannot be used."""
NO_SUPERVISOR = 3
"""No supervisor is running. `logs`, and `events` without `-f`, then read the files if there are any; `down` without
`--detach` then stops leftover daemons and returns 0."""
ALREADY_RUNNING = 4
"""`serve`: the state directory is already supervised."""
REQUIRED = 5
"""A daemon of `--require` cannot run. `serve` stops then; `up` leaves the supervisor running."""
INTERRUPTED = 130
"""Ctrl-C."""
UNKNOWN = 3
"""Of `health`, whose exit codes are those of monitoring plugins: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown."""
