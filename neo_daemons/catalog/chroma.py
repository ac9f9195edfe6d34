"""Locates chroma, the vector database: ``chroma run`` of the installed chromadb."""

from __future__ import annotations

from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Launch
from neo_daemons.references import escape

from .installed import find_script, installed_version, pip_install


def locate(definition: Definition, project: Project) -> Launch | CannotRun:
    """Find the ``chroma`` script."""
    script = find_script("chroma", project)
    if script is None:
        return CannotRun(
            reason="chromadb is not installed in this environment, and chroma is not on PATH",
            remedy=pip_install("chroma"),
        )
    # Always pass the host: "localhost" is IPv4 on one machine and IPv6 on the next.
    arguments = ("run", "--path", "${data_dir}", "--host", "${host}", "--port", "${port}")
    return Launch(
        command=(escape(str(script)), *arguments),
        # chroma uses its arguments, but fails if this variable of the project or of a .env file is not a port.
        env={"CHROMA_SERVER_HTTP_PORT": "${port}"},
        version=installed_version("chromadb", script),
    )
