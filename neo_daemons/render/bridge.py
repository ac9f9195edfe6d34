"""The bridge in a container: nobody publishes an image of it, so what it is built from is rendered."""

from __future__ import annotations

import functools
from pathlib import Path

from neo_daemons.bridge_files import DAEMON_DIR_VARIABLE, DATABASE_VARIABLE, OLD_DATABASE_VARIABLE, PID_FILES, SCRIPTS
from neo_daemons.definitions import Definition, Deploy

from .image import Image

NODE = "node:24-bookworm"
DIRECTORY = "bridge"
"""What the files are in, beside the rendered ones."""
HERE = Path(__file__).parent / "bridge_image"
CATALOG = Path(__file__).parent.parent / "catalog" / "neo_mjs"
DOCKERFILE = f"""\
# Written by `neo-daemons render compose`: neo.mjs with its wake daemon, in the version that neo-daemons is tested with.
FROM {NODE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Of the install scripts only that of the SQLite binding is required.
RUN npm ci --ignore-scripts \\
 && npm rebuild better-sqlite3 --ignore-scripts=false \\
 && node node_modules/neo.mjs/ai/scripts/setup/initServerConfigs.mjs

FROM {NODE}-slim
WORKDIR /app
COPY --from=build /app ./
COPY start.sh init_graph.mjs healthcheck.mjs ./
CMD ["sh", "start.sh"]
"""
START = f"""\
#!/bin/sh
# Starts the wake daemon: creates its database at the first start, and removes the PID files of a run that was killed,
# which the daemon would take for those of a predecessor.
set -e
mkdir -p "${DAEMON_DIR_VARIABLE}"
[ -e "${DATABASE_VARIABLE}" ] || node init_graph.mjs node_modules/neo.mjs "${DATABASE_VARIABLE}"
cd "${DAEMON_DIR_VARIABLE}"
rm -f {" ".join(PID_FILES)}
cd /app
exec node node_modules/neo.mjs/{SCRIPTS[0]}
"""


def image(definition: Definition, deploy: Deploy) -> Image:
    """Return the image, and the files that it is built from."""
    built = deploy.image is None
    directory, database = "${data_dir}/wake-daemon", "${data_dir}/memory-core-graph.sqlite"
    return Image(
        name=deploy.image or "",
        env={DAEMON_DIR_VARIABLE: directory, DATABASE_VARIABLE: database, OLD_DATABASE_VARIABLE: database},
        data_dir=deploy.data_dir,
        probe_command=("node", "/app/healthcheck.mjs"),
        build=DIRECTORY if built else None,
        files=_files() if built else {},
        notes=("its probe asks what that of the supervisor asks: is it at the end of its log, or making progress?",),
    )


@functools.cache
def _files() -> dict[str, str]:
    files = {"Dockerfile": DOCKERFILE, "start.sh": START}
    files |= {name: (CATALOG / name).read_text() for name in ("package.json", "package-lock.json", "init_graph.mjs")}
    files["healthcheck.mjs"] = (HERE / "healthcheck.mjs").read_text()
    return {f"{DIRECTORY}/{name}": text for name, text in files.items()}
