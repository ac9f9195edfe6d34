"""A machine on which only what a test puts there is found."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import neo_daemons
from neo_daemons import catalog
from neo_daemons.config import load
from neo_daemons.definitions import (
    CannotRun,
    Launch,
)

PIP = f"{shlex.quote(sys.executable)} -m pip install"
LINK_SCRIPT = "ai/mcp/server/neural-link/run-bridge.mjs"
LISTENS = "listens on all interfaces, regardless of the host setting"


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def checkout(home: Path, *scripts: str, version: str | None = "9.9.9", missing: str = "") -> Path:
    """A neo.mjs that can be run, but for what is `missing`."""
    files = [*scripts, "ai/config.template.mjs", "ai/config.mjs", "node_modules/better-sqlite3/package.json"]
    for name in files:
        if not missing or missing not in name:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).touch()
    if version is not None:
        (home / "package.json").write_text(json.dumps({"name": "neo.mjs", "version": version}))
    return home


def needed(extra: str, package: str) -> str:
    """What ``pyproject.toml`` says that an extra needs of a package."""
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    found = [text for text in project["optional-dependencies"][extra] if re.match(re.escape(package) + "[<>=]", text)]
    return str(found[0]).partition(";")[0]


class Machine:
    """A PATH, an environment of this interpreter, a project and a cache, all empty."""

    def __init__(self, base: Path) -> None:
        self.path = base / "bin"
        self.scripts = base / "venv" / "bin"
        self.root = base / "project"
        self.cache = base / "cache"
        for directory in (self.path, self.scripts, self.root):
            directory.mkdir(parents=True)
        self.environ = {"PATH": str(self.path), "NEO_DAEMONS_CACHE_DIR": str(self.cache)}

    def install(self, *names: str) -> list[Path]:
        return [program(self.path / name) for name in names]

    def locate(self, name: str, settings: str = "") -> Launch | CannotRun:
        """How the daemon is run, with these settings in its table."""
        file = self.root / "neo-daemons.toml"
        file.write_text(f"[daemons.{name}]\n{settings}\n")
        configuration = load(file, environ=self.environ)
        return catalog.resolve(configuration.definitions[0], configuration.project)

    def finds(self, name: str, settings: str = "") -> Launch:
        found = self.locate(name, settings)
        assert isinstance(found, Launch), found
        return found


def packaged(name: str) -> Any:
    return json.loads((Path(neo_daemons.__file__).parent / "catalog" / "neo_mjs" / name).read_text())


def pinned(package: str) -> str:
    return str(packaged("package.json")["dependencies"][package])
