"""The exit codes of the command line."""

from __future__ import annotations

DONE, FAILED, USAGE, NO_SUPERVISOR, ALREADY_RUNNING, REQUIRED = range(6)
UNKNOWN = 3
"""Of `health`, whose exit codes are those of monitoring plugins: 0 healthy, 1 degraded, 2 unhealthy, 3 unknown."""
