"""The default settings of the built-in daemons: chroma, bridge, mlx and neural-link.

Each is a table in the vocabulary of ``neo-daemons.toml``; a user's own settings override it. `neo_daemons.catalog`
finds the programs on a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from neo_daemons.bridge_files import (
    DAEMON_DIR_VARIABLE,
    DATABASE_VARIABLE,
    LOG_END_QUERY,
    POSITION_FILE,
    STARTED,
    STUCK_S,
)
from neo_daemons.references import escape

HTTP_URL = "http://${host}:${port}"
BRIDGE_DATABASE = "${data_dir}/memory-core-graph.sqlite"
BRIDGE_DIR = "${data_dir}/wake-daemon"
"""The bridge keeps its state here, apart from the supervisor's files: it would mistake our PID file for its own."""
NEO_HOME = "directory of a neo.mjs checkout"


class Builtin(Struct, frozen=True, kw_only=True):
    """A built-in daemon."""

    settings: Callable[[Mapping[str, str]], dict[str, Any]]
    """Default settings, given the options."""
    options: Mapping[str, str] = {}
    """Keys that only its table may have, with the meaning of each."""
    preferred_port: int | None = None
    data_options: frozenset[str] = frozenset()
    """Options that name data. A test session does not use them, so that it shares no data with production."""
    quiet: Mapping[str, str] = {}
    """Environment variables with which it logs errors only, for test sessions."""
    by_default: bool = True
    """Whether a project without a configuration runs it."""
    stated_elsewhere: Mapping[str, str] | None = None
    """Keys that its table ``settings``, which becomes the configuration file of its program, must not have, because
    other keys of the daemon state them → those. None: it has no such table."""


def _chroma(options: Mapping[str, str]) -> dict[str, Any]:
    """Both probes use the heartbeat, the only check that the server offers; it does not check the store."""
    heartbeat = {"type": "http", "path": "/api/v2/heartbeat", "body": "nanosecond heartbeat"}
    return {
        "port": "auto",
        "data_dir": "${state_dir}/data/chroma",
        "url": HTTP_URL,
        "ready": heartbeat,
        "live": heartbeat,
        "exports": {"CHROMA_HOST": "${host}", "CHROMA_PORT": "${port}", "CHROMA_URL": HTTP_URL},
    }


def _bridge(options: Mapping[str, str]) -> dict[str, Any]:
    """The daemon swallows the errors of its polls, so a running process proves nothing: its position must advance."""
    database = bridge_database(options)
    return {
        "data_dir": "${state_dir}/data/bridge",
        "ready": {"type": "log", "pattern": STARTED},
        "live": {
            "type": "file",
            "path": f"{BRIDGE_DIR}/{POSITION_FILE}",
            "database": database,
            "query": LOG_END_QUERY,
            "within_s": STUCK_S,
            "interval_s": 5.0,
        },
        "exports": {DAEMON_DIR_VARIABLE: BRIDGE_DIR, DATABASE_VARIABLE: database},
    }


def bridge_database(options: Mapping[str, str]) -> str:
    """Return the path of the bridge's graph database; it may hold references."""
    return escape(options["database"]) if "database" in options else BRIDGE_DATABASE


def _mlx(options: Mapping[str, str]) -> dict[str, Any]:
    """``/health`` says ok before the model can answer, so the readiness probe asks for a completion."""
    health = {"type": "http", "path": "/health", "body": '"ok"'}
    completion = {
        "type": "http",
        "path": "/v1/chat/completions",
        "method": "POST",
        "json": {"messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1},
        "body": '"choices"',
        "timeout_s": 60.0,
    }
    return {
        "port": "auto",
        "url": HTTP_URL,
        "ready": [health, completion],
        "live": health,
        "start_grace_s": 120.0,
        "exports": {"OPENAI_BASE_URL": f"{HTTP_URL}/v1"},
    }


def _neural_link(options: Mapping[str, str]) -> dict[str, Any]:
    return {
        "port": "auto",
        "url": "ws://${host}:${port}",
        "ready": {"type": "tcp"},
        "live": {"type": "tcp"},
        "stop": {"signal": "SIGINT"},
        "exports": {"NEO_NL_PORT": "${port}"},
    }


BUILTINS: Mapping[str, Builtin] = {
    "chroma": Builtin(
        settings=_chroma,
        preferred_port=8000,
        quiet={"RUST_LOG": "error"},
        stated_elsewhere={"port": "port", "listen_address": "host", "persist_path": "data_dir"},
    ),
    "bridge": Builtin(
        settings=_bridge,
        options={"home": NEO_HOME, "database": "path of the graph database (created if missing)"},
        data_options=frozenset({"database"}),
    ),
    "mlx": Builtin(
        settings=_mlx,
        options={"model": "directory of a model, or its Hugging Face repository id"},
        preferred_port=8080,
    ),
    "neural-link": Builtin(
        settings=_neural_link,
        options={"home": NEO_HOME},
        preferred_port=8081,
        # It listens on all interfaces.
        by_default=False,
    ),
}
"""The built-in daemons by name, in the order of a project without a configuration. A preferred port is the default of
the program itself."""
