"""The files of a project are not ours to run: none takes the place of a module that we import."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from neo_daemons.interpreter import installed_first, installed_modules

from .harness import Project, toy

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "neo-daemons")
THIRD_PARTY = (
    "anyio", "certifi", "filelock", "h11", "httpcore", "httpx", "idna", "msgspec", "psutil", "rich",
    "tenacity",
)  # fmt: skip
IN_USE_BEFORE_US = frozenset(
    {
        "__future__", "collections", "contextlib", "enum", "functools", "importlib", "keyword", "operator", "re",
        "reprlib", "types", "typing", "warnings",
    }
)  # fmt: skip
"""What the interpreter itself imports for ``python -m``, before it begins with us, in one version or another."""
COMMANDS = ("status", "health", "why web", "logs web", "events", "reload", "doctor", "reap", "env", "--help")


def shadow(directory: Path, *names: str) -> None:
    for name in names:
        (directory / f"{name}.py").write_text(f"raise SystemExit('the project has run its own {name}')\n")


def everything() -> list[str]:
    return [*sorted(sys.stdlib_module_names - set(sys.builtin_module_names)), *THIRD_PARTY]


def run(project: Project, *command: str, **env: str) -> str:
    done = subprocess.run(
        command, cwd=project.root, env={**project.env, **env}, text=True, capture_output=True, timeout=60, check=False
    )
    assert "the project has run" not in done.stdout + done.stderr
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def all_commands(project: Project) -> Project:
    """A project whose daemon comes up and goes down by whatever way to call the command line."""
    project.configure(web=toy())
    return project


def through_all_commands(project: Project, *prefix: str, **env: str) -> None:
    assert "web: ready" in run(project, *prefix, "up", "--wait", "30", **env)
    try:
        for command in COMMANDS:
            run(project, *prefix, *command.split(), **env)
    finally:
        run(project, *prefix, "down", **env)


def test_the_console_script_imports_no_module_of_the_working_directory(all_commands: Project) -> None:
    shadow(all_commands.root, *everything(), "neo_daemons")
    through_all_commands(all_commands, SCRIPT)


def test_python_m_imports_no_module_of_the_working_directory(all_commands: Project) -> None:
    shadow(all_commands.root, *sorted(set(everything()) - IN_USE_BEFORE_US))
    through_all_commands(all_commands, sys.executable, "-m", "neo_daemons")


@pytest.mark.parametrize("pythonpath", [".", ":/nonexistent", "src"])
def test_what_pythonpath_names_takes_the_place_of_no_installed_module(all_commands: Project, pythonpath: str) -> None:
    source = all_commands.root / "src"
    source.mkdir()
    shadow(source if pythonpath == "src" else all_commands.root, "queue", "token", "secrets", *THIRD_PARTY)
    through_all_commands(all_commands, sys.executable, "-m", "neo_daemons", PYTHONPATH=pythonpath)


def test_a_daemon_gets_the_environment_that_says_nothing_of_safe_paths(project: Project) -> None:
    table = {"command": ["sh", "-c", "env; echo quiet and ready; exec sleep 600"]}
    project.configure(web={**toy("quiet"), **table})
    run(project, sys.executable, "-m", "neo_daemons", "up", PYTHONPATH="src")
    try:
        said = run(project, sys.executable, "-m", "neo_daemons", "logs", "-n", "1000", "web")
        assert "PYTHONPATH=src\n" in said
        assert "PYTHONSAFEPATH" not in said
    finally:
        run(project, sys.executable, "-m", "neo_daemons", "down")


def test_a_supervisor_loads_no_command_line_of_a_library() -> None:
    """httpx would load rich and pygments, if they are installed."""
    program = "import sys; from neo_daemons import interpreter; interpreter.leave_out_unused_modules(); import httpx"
    said = "print(callable(httpx.main), [name for name in ('rich', 'pygments') if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", f"{program}; {said}"], check=True, capture_output=True, text=True)
    assert output.stdout == "True []\n"


def test_a_process_of_tests_gets_the_installed_psutil(tmp_path: Path) -> None:
    """Where the platform needs it, the first look at processes may come late, in a thread, with the tests' directories
    first on the path: a run could not find its supervisor, and said that it did not answer."""
    shadow(tmp_path, "psutil")
    look = "from neo_daemons.supervision.platform.posix import PosixPlatform; assert PosixPlatform().pids()"
    same = "assert sys.path[0] == sys.argv[1]; import psutil"
    program = f"import sys; sys.path.insert(0, sys.argv[1]); {look}; {same}"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_the_path_is_restored_when_the_last_thread_has_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ["/project", *sys.path]
    monkeypatch.setattr(sys, "path", before[:])
    first, second = installed_modules(), installed_modules()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert sys.path == installed_first()
    assert sys.path != before
    second.__exit__()
    assert sys.path == before
