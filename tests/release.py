"""A release is built and tried: ``python -m tests.release [--dist DIR] [--python PROGRAM]…``.

From a clone of the commit that is checked out, `build` makes the source distribution, and the wheel from that. Their
contents are compared with what git tracks. Then each of them is installed into an empty environment of each interpreter
and tried there, outside the checkout: the version, the commands, and a test run with the plugin.

An interpreter that is not found is named, and not tried. With ``--dist``, what is there is tried, and nothing is built.
This file needs nothing but the standard library, `build` and `twine`, so that it can be copied to another machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PACKAGES = ("neo_daemons/", "pytest_neo_daemons/")
TIMEOUT_S = 600.0
CONFIGURATION = """
[daemons.web]
command = ["${python}", "-m", "http.server", "--bind", "${host}", "${port}"]
port = "auto"
ready = { type = "http" }
"""
TEST = """
import urllib.request

def test_web(web):
    assert urllib.request.urlopen(web.url).status == 200
"""


class Failed(Exception):
    """The release is not what it should be; ``str()`` says why."""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def differences(found: set[str], wanted: set[str]) -> list[str]:
    """Say what is missing, and what is too much."""
    missing = [f"missing: {name}" for name in sorted(wanted - found)]
    return missing + [f"not tracked by git: {name}" for name in sorted(found - wanted)]


def files_of_wheel(path: Path) -> set[str]:
    """What a wheel installs, without what describes it."""
    with zipfile.ZipFile(path) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith("/")}


def files_of_sdist(path: Path) -> set[str]:
    """The files of a source distribution, without what describes it."""
    with tarfile.open(path) as archive:
        return {one.name.partition("/")[2] for one in archive if not one.isdir()} - {"PKG-INFO"}


def one(dist: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(dist.glob(pattern))
    if len(found) != 1:
        raise Failed(f"{dist} has {len(found)} files {pattern}")
    return found[0]


def build(directory: Path) -> Path:
    """Build both from a clone, compare them with it, and return their directory."""
    clone = directory / "clone"
    run("git", "clone", "--quiet", ROOT, clone, cwd=directory)
    run(sys.executable, "-m", "build", cwd=clone)
    dist = clone / "dist"
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=clone)
    tracked = {*run("git", "ls-files", cwd=clone).splitlines()}
    wrong = differences(files_of_wheel(one(dist, "*.whl")), {name for name in tracked if name.startswith(PACKAGES)})
    wrong += differences(files_of_sdist(one(dist, "*.tar.gz")), tracked)
    if wrong:
        raise Failed("\n".join(wrong))
    print(f"built of {run('git', 'rev-parse', '--short', 'HEAD', cwd=clone).strip()}: contents are what git tracks")
    return dist


def interpreter(version: str) -> str | None:
    """An interpreter of that version: on PATH, or of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for program in (shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))):
        if program is not None and shutil.which(program):
            seen = subprocess.run([program, "-c", ""], capture_output=True, check=False)
            if seen.returncode == 0:  # not a shim of pyenv for a version that is not chosen
                return program
    return None


def try_out(python: str, package: Path, directory: Path) -> str:
    """Install one file into an empty environment and use it. Return the version of the interpreter."""
    directory.mkdir()
    run(python, "-m", "venv", directory / "venv", cwd=directory)
    programs = directory / "venv/bin"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "NEO_", "VIRTUAL_ENV"))}
    env |= {"NEO_DAEMONS_REGISTRY": str(directory / "registry")}
    run(
        programs / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        package,
        "pytest",
        "pytest-xdist",
        cwd=directory,
        env=env,
    )
    project = directory / "project"
    project.mkdir()
    (project / "neo-daemons.toml").write_text(CONFIGURATION)
    (project / "test_web.py").write_text(TEST)
    stated = re.search(r"neo_daemons-([^-]+?)(?:-py3|\.tar)", package.name)
    shown = run(programs / "neo-daemons", "--version", cwd=project, env=env)
    if stated is None or stated[1] not in shown.split():
        raise Failed(f"{package.name} says that it is {shown.strip()}")
    try:
        run(programs / "neo-daemons", "up", cwd=project, env=env)
        run(programs / "neo-daemons", "status", "--check", cwd=project, env=env)
    finally:
        run(programs / "neo-daemons", "down", cwd=project, env=env)
    ran = run(programs / "python", "-m", "pytest", "--neo-daemons", "-n", "2", "test_web.py", cwd=project, env=env)
    if "1 passed" not in ran:
        raise Failed(f"the test did not run:\n{ran}")
    shutil.rmtree(directory)
    return run(python, "-c", "import platform; print(platform.python_version())", cwd=project.parents[1]).strip()


def main() -> int:
    """Return 0 if all of it works."""
    parser = argparse.ArgumentParser(prog="python -m tests.release")
    parser.add_argument("--dist", type=Path, help="try the files that are there; build nothing")
    parser.add_argument("--python", action="append", help="an interpreter to try them with (default: 3.11 to 3.14)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="neo-release-") as name:
        directory = Path(name)
        try:
            dist = options.dist.resolve() if options.dist is not None else build(directory)
            for wanted in options.python or VERSIONS:
                python = wanted if options.python else interpreter(wanted)
                if python is None:
                    print(f"{wanted}: not found, so NOT TRIED")
                    continue
                for package in (one(dist, "*.whl"), one(dist, "*.tar.gz")):
                    version = try_out(python, package, directory / "trial")
                    print(f"{version}: {package.name} installed and tried", flush=True)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
