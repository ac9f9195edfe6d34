"""Shells and containers lack this and that. What a command does not need may be missing; what it needs is named in one
line, with exit code 2."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from neo_daemons.config.project import CACHE_VARIABLE, HOMELESS_CACHE, default_cache
from neo_daemons.control.address import MAX_PATH_BYTES, socket_path

from .harness import TOY, Project, free_port, toy, until

pytestmark = pytest.mark.long

NEO_DAEMONS = (sys.executable, "-m", "neo_daemons")
NOT_UTF8 = os.fsdecode(b"caf\xe9")
STRANGER = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
"""A user whom the passwd database does not know."""
DEEP = "a-long-directory-name/" * 6


class Shell(NamedTuple):
    """A way to start a command: what a shell does first, and the variables that it changes (None: unset)."""

    before: str = ""
    env: Mapping[str, str | None] = MappingProxyType({})
    prefix: tuple[str, ...] = ()

    def run(self, project: Project, *command: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        env = {**project.env, **self.env}
        return subprocess.run(
            ["/bin/sh", "-c", f'{self.before or ":"}; exec "$@"', "sh", *self.prefix, *NEO_DAEMONS, *command],
            cwd=project.root,
            env={name: value for name, value in env.items() if value is not None},
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )


WORKING = {
    "no-home": Shell(env={"HOME": None}),
    "home-empty": Shell(env={"HOME": ""}),
    "home-relative": Shell(env={"HOME": "home"}),
    "home-missing": Shell(env={"HOME": "/nonexistent"}),
    "home-not-utf8": Shell(env={"HOME": f"/nonexistent/{NOT_UTF8}"}),
    "no-passwd-entry": Shell(env={"HOME": None, "XDG_CACHE_HOME": None}, prefix=STRANGER),
    "no-passwd-entry-nor-home": Shell(env={"HOME": "/", "XDG_CACHE_HOME": None}, prefix=STRANGER),
    "runtime-missing": Shell(
        f"mkdir -p {DEEP}; cp neo-daemons.toml {DEEP}; cd {DEEP}", {"XDG_RUNTIME_DIR": "/run/user/0/no"}
    ),
    "runtime-relative": Shell(f"mkdir -p {DEEP}; cp neo-daemons.toml {DEEP}; cd {DEEP}", {"XDG_RUNTIME_DIR": "run"}),
    "runtime-a-file": Shell(
        f"mkdir -p {DEEP}; cp neo-daemons.toml {DEEP}; cd {DEEP}", {"XDG_RUNTIME_DIR": "/etc/passwd"}
    ),
    "cache-relative": Shell(env={"XDG_CACHE_HOME": "cache"}),
    "cache-not-utf8": Shell(env={"XDG_CACHE_HOME": f"/nonexistent/{NOT_UTF8}"}),
    "variable-not-utf8": Shell(env={"LEGACY": NOT_UTF8, NOT_UTF8: "1"}),
    "path-not-utf8": Shell(env={"PATH": f"/nonexistent/{NOT_UTF8}:{os.environ['PATH']}"}),
    "path-unset": Shell(env={"PATH": None}),
    "environment-empty": Shell("unset $(/usr/bin/env | /usr/bin/cut -d= -f1) 2>/dev/null"),
    "locale-c": Shell(env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "locale-unknown": Shell(env={"LC_ALL": "xx_YY.unknown"}),
    "encoding-ascii": Shell(env={"PYTHONIOENCODING": "ascii"}),
    "terminal-dumb": Shell(env={"TERM": "dumb", "COLUMNS": "none"}),
    "temporary-missing": Shell(env={"TMPDIR": "/nonexistent"}),
    "temporary-not-utf8": Shell(env={"TMPDIR": f"/nonexistent/{NOT_UTF8}"}),
    "umask-all": Shell("umask 0777"),
    "umask-all-stranger": Shell("umask 0777", prefix=STRANGER),
    "umask-own-search": Shell("umask 0177", prefix=STRANGER),
    "few-descriptors": Shell("ulimit -n 24"),
    "all-streams-closed": Shell("exec <&- >&- 2>&-"),
    "standard-error-full": Shell("exec 2>/dev/full"),
    "optimized": Shell(env={"PYTHONOPTIMIZE": "2"}),
}
REFUSED = {
    "directory-deleted": (
        Shell("mkdir gone; cd gone; rmdir ../gone"),
        "the working directory has been deleted; change",
    ),
    "directory-not-utf8": (
        Shell(f"mkdir {NOT_UTF8}; cp neo-daemons.toml {NOT_UTF8}; cd {NOT_UTF8}"),
        "is not UTF-8; ",
    ),
    "state-not-utf8": (
        Shell(env={"NEO_DAEMONS_STATE_DIR": NOT_UTF8}),
        "caf\\udce9: the path is not UTF-8; use an existing directory or a new path",
    ),
    "configuration-unreadable": (
        Shell("rm neo-daemons.toml; mkdir neo-daemons.toml"),
        "pass an existing, readable file",
    ),
}


CODES = {
    "--help": {0},
    "doctor": {0, 1},
    "status": {3},
    "up --wait 50": {0},
    "status --check": {0},
    "health": {0, 2},  # a machine under load lets it wait too long
    "down": {0},
}
"""Command → its exit codes, in the order in which they are tried."""
FURTHER = ("--help", "doctor", "status", "health")


def uses() -> Iterator[Any]:
    """Each shell with each further command. Every run of the suite has each shell, with one of them."""
    for index, name in enumerate(WORKING):
        for number, further in enumerate(FURTHER):
            usual = index % len(FURTHER) == number
            yield pytest.param(name, further, marks=[] if usual else pytest.mark.matrix)


@pytest.mark.parametrize(("name", "further"), [*uses()])
def test_commands_do_not_miss_what_they_do_not_need(project: Project, name: str, further: str) -> None:
    project.configure(web=toy())
    steps = {command: codes for command, codes in CODES.items() if command == further or command not in FURTHER}
    try:
        for command, codes in steps.items():
            done = WORKING[name].run(project, *command.split())
            assert done.returncode in codes, (command, done.stdout, done.stderr)
            assert "Traceback" not in done.stderr, command
    except BaseException:
        WORKING[name].run(project, "down")
        raise


@pytest.mark.parametrize("command", ["reap", "down"])
def test_the_daemons_of_other_projects_cost_no_descriptors(project: Project, command: str) -> None:
    """With as many of them as descriptors, no daemon could be stopped."""
    other = Project(project.root / "other")
    other.root.mkdir()
    other.configure(**{f"sleeper-{number}": {"command": ["sleep", "600"]} for number in range(24)})
    try:
        other.serve()
        until(lambda: len(other.left()) == 24, "the daemons of the other project")
        done = WORKING["few-descriptors"].run(project, command)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(other.left()) == 24
    finally:
        assert other.close() == []


COMMANDS = ("up", "serve", "status", "doctor", "down", "reap", "logs web", "why web", "reload")


def pairs() -> Iterator[Any]:
    """Each command in each shell. Every run of the suite has all of a few commands, and each command in one shell."""
    for index, command in enumerate(COMMANDS):
        for number, name in enumerate(REFUSED):
            usual = command in ("up", "status") or index % len(REFUSED) == number
            yield pytest.param(name, command, marks=[] if usual else pytest.mark.matrix)


@pytest.mark.parametrize(("name", "command"), [*pairs()])
def test_what_is_needed_and_missing_is_said_in_one_line(project: Project, name: str, command: str) -> None:
    project.configure(web=toy())
    shell, expected = REFUSED[name]
    refused = shell.run(project, *command.split())
    assert refused.returncode == 2, (refused.stdout, refused.stderr)
    assert refused.stderr.count("\n") == 1
    assert expected in refused.stderr


def test_an_argument_that_is_not_utf8_is_refused(project: Project) -> None:
    project.configure(web=toy())
    for arguments in (("why", NOT_UTF8), ("start", NOT_UTF8), ("status", "--state-dir", NOT_UTF8), (NOT_UTF8,)):
        refused = Shell().run(project, *arguments)
        assert refused.returncode == 2, arguments
        assert "caf\\udce9" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert Shell().run(project, "health", NOT_UTF8).returncode == 3


def test_a_state_directory_that_is_named_needs_no_working_directory(project: Project) -> None:
    project.configure(web=toy())
    project.serve()
    shell = Shell("mkdir gone; cd gone; rmdir ../gone")
    project.reaches("web", "ready")
    for command in ("status --check", "events", "logs web", "why web", "down"):
        done = shell.run(project, *command.split(), "--state-dir", str(project.state.path))
        assert done.returncode == 0, (command, done.stderr)


def test_a_daemon_gets_variables_that_are_not_utf8_as_they_are(project: Project) -> None:
    look = "import os; print('got', os.environb[b'LEGACY'], flush=True); print('quiet and ready', flush=True)"
    wait = "import signal; signal.pause()"
    project.configure(web={**toy("quiet"), "command": [sys.executable, "-c", f"{look}; {wait}"]})
    shell = Shell(env={"LEGACY": NOT_UTF8})
    try:
        assert shell.run(project, "up").returncode == 0
        assert "got b'caf\\xe9'" in shell.run(project, "logs", "web").stdout
    finally:
        shell.run(project, "down")


def test_a_program_whose_path_is_not_utf8_fails_alone(project: Project, tmp_path: Path) -> None:
    directory = tmp_path / NOT_UTF8
    directory.mkdir()
    shutil.copy("/bin/sh", directory / "legacy-program")
    project.env["PATH"] = f"{directory}:{project.env['PATH']}"
    legacy = {**toy("quiet"), "command": ["legacy-program", "-c", "echo quiet and ready; exec sleep 600"]}
    project.configure(web=toy(), legacy=legacy)
    project.serve()
    project.reaches("web", "ready")
    project.reaches("legacy", "ready", "parked", "unavailable", "backoff")
    assert project.run("why", "legacy").returncode == 0
    assert project.run("status", "--json").returncode == 0


def test_a_port_holder_whose_command_line_is_not_utf8_is_named(project: Project) -> None:
    port = free_port()
    command = [*TOY, f"port={port}", NOT_UTF8]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holder:
        try:
            until(lambda: answers(port), "an answer of the port's holder")
            project.configure(web=toy(port=port))
            project.serve()
            project.reaches("web", "parked", "backoff", "unavailable")
            why = project.run("why", "web", "--json")
            assert why.returncode == 0, why.stderr
            assert str(holder.pid) in why.stdout
        finally:
            holder.kill()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_no_home_directory_means_a_cache_that_only_provisions_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for variable in ("HOME", "XDG_CACHE_HOME", CACHE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    assert default_cache({}) == HOMELESS_CACHE
    assert default_cache({CACHE_VARIABLE: "/somewhere"}) == Path("/somewhere")


def test_the_cache_is_where_this_system_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert default_cache({}) == Path("/home/somebody", usual, "neo-daemons")
    assert default_cache({"XDG_CACHE_HOME": "relative"}) == Path("/home/somebody", usual, "neo-daemons")
    assert default_cache({"XDG_CACHE_HOME": "/caches"}) == Path("/caches/neo-daemons")
    assert default_cache({"XDG_CACHE_HOME": "/caches", CACHE_VARIABLE: "/stated"}) == Path("/stated")


def test_a_socket_is_put_where_this_user_can_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 200)
    for useless in ("/nonexistent", "relative", "/etc/passwd", f"/tmp/{NOT_UTF8}", "x" * 300, ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        path = socket_path(long)
        assert path.is_absolute()
        assert len(os.fsencode(path)) <= MAX_PATH_BYTES
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_json_comes_out_whole_in_a_locale_that_has_no_umlauts(project: Project) -> None:
    project.configure(web=toy(env={"GREETING": "grüße ☃"}, exports={"GREETING": "grüße ☃"}))
    project.serve()
    project.reaches("web", "ready")
    done = WORKING["locale-c"].run(project, "status", "--json")
    assert json.loads(done.stdout)["daemons"][0]["name"] == "web"
