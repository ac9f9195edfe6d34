"""chroma: the vector database, as ``chroma run`` of the chromadb beside us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neo_daemons.definitions import Definition, Launch, Unavailable
from neo_daemons.references import escape

from .project import Project, find_script, installed_version, pip_install

PORT = 8000
"""chroma's own default."""


def settings(options: Mapping[str, str]) -> dict[str, Any]:
    """Its defaults. The heartbeat is what the server offers for both probes; it does not see the store."""
    heartbeat = {"type": "http", "path": "/api/v2/heartbeat", "body": "nanosecond heartbeat"}
    return {
        "port": "auto",
        "data_dir": "${state_dir}/data/chroma",
        "url": "http://${host}:${port}",
        "ready": heartbeat,
        "live": heartbeat,
        "exports": {"CHROMA_HOST": "${host}", "CHROMA_PORT": "${port}", "CHROMA_URL": "http://${host}:${port}"},
    }


def locate(definition: Definition, project: Project) -> Launch | Unavailable:
    """Find the ``chroma`` script."""
    script = find_script("chroma", project)
    if script is None:
        return Unavailable(
            reason="chromadb is not installed in this environment, and there is no chroma on PATH",
            remedy=pip_install("chroma"),
        )
    # The host is always named: "localhost" is IPv4 on one machine and IPv6 on the next.
    arguments = ("run", "--path", "${data_dir}", "--host", "${host}", "--port", "${port}")
    return Launch(
        command=(escape(str(script)), *arguments),
        # It goes by its arguments, but does not run if the project's own, or that of a .env, is no port.
        env={"CHROMA_SERVER_HTTP_PORT": "${port}"},
        version=installed_version("chromadb", script),
    )
