"""chroma: the vector database, as ``chroma run`` of the chromadb beside us."""

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
    # The host is always named: "localhost" is IPv4 on one machine and IPv6 on the next.
    arguments = ("run", "--path", "${data_dir}", "--host", "${host}", "--port", "${port}")
    return Launch(
        command=(escape(str(script)), *arguments),
        # It goes by its arguments, but does not run if the project's own, or that of a .env, is no port.
        env={"CHROMA_SERVER_HTTP_PORT": "${port}"},
        version=installed_version("chromadb", script),
    )
