"""The environment that daemons get from an ordinary shell: which programs they find, and what references name in it."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from neo_daemons.environment import inherited, references, search_path

from .harness import Project, until

SCRIPTS = sysconfig.get_path("scripts")
IN_A_VENV = sys.prefix != sys.base_prefix
PRINT = "import os, signal; [print(f'{k}={v}') for k, v in os.environ.items()]; print('printed'); signal.pause()"
"""Prints what it got, as a script does: without flushing."""


def told(project: Project, name: str = "worker") -> dict[str, str]:
    """The variables that a daemon has printed."""
    log = project.state.daemon_log(name)
    until(lambda: log.is_file() and "printed\n" in log.read_text(), f"the output of {name}")
    return dict(line.partition("=")[::2] for line in log.read_text().splitlines())


def test_a_python_daemon_that_does_not_flush_is_seen_to_be_ready(project: Project) -> None:
    project.env.pop("PYTHONUNBUFFERED", None)
    ready = {"type": "log", "pattern": "printed"}
    project.configure(worker={"command": [sys.executable, "-c", PRINT], "ready": ready})
    project.serve()
    assert project.reaches("worker", "ready").ready
    assert told(project)["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize("by", ["the definition", "the environment"])
def test_python_is_left_buffered_where_that_is_stated(project: Project, by: str) -> None:
    project.env.pop("PYTHONUNBUFFERED", None)
    table = {"command": ["sh", "-c", "env; echo printed; exec sleep 1000"]}
    if by == "the definition":
        project.configure(worker={**table, "env": {"PYTHONUNBUFFERED": ""}})
    else:
        project.env["PYTHONUNBUFFERED"] = ""
        project.configure(worker=table)
    project.serve()
    assert told(project)["PYTHONUNBUFFERED"] == ""


@pytest.mark.skipif(not IN_A_VENV, reason="outside a virtual environment the system's PATH says what python is")
def test_commands_and_probes_find_the_programs_of_an_environment_that_is_not_activated(project: Project) -> None:
    project.env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    show = "import sys; print(sys.prefix); print('printed', flush=True); import signal; signal.pause()"
    project.configure(
        worker={
            "command": ["python", "-c", show],
            "ready": {"type": "exec", "command": ["python", "-c", "import neo_daemons"], "timeout_s": 60.0},
        }
    )
    doctor = project.run("doctor")
    assert f"worker: {SCRIPTS}/python" in doctor.stdout
    project.serve()
    assert project.reaches("worker", "ready").ready
    assert sys.prefix in told(project)


def test_a_path_that_the_definition_states_is_left_as_it_is(project: Project) -> None:
    project.configure(
        worker={
            "command": ["/bin/sh", "-c", "env; echo printed; exec sleep 1000"],
            "env": {"PATH": "/bin:/usr/bin", "OLD_PATH": "${env.PATH}"},
        }
    )
    project.serve()
    seen = told(project)
    assert seen["PATH"] == "/bin:/usr/bin"
    assert seen["OLD_PATH"] == search_path(project.env["PATH"])


def test_references_name_the_interpreter_the_url_and_variables(project: Project) -> None:
    project.env["REGION"] = "eu $HOME ${port}"
    project.configure(
        worker={
            "command": ["${python}", "-c", PRINT, "${env.REGION}"],
            "port": "auto",
            "env": {"OWN_URL": "${url}", "WHERE": "${env.REGION}", "PYTHON": "${python}"},
        },
        other={
            "command": ["${daemons.worker.python}"],
        },
    )
    assert "unknown reference ${daemons.worker.python}" in project.run("serve").stderr
    project.configure(
        worker={
            "command": ["${python}", "-c", PRINT],
            "port": "auto",
            "env": {"OWN_URL": "${url}", "WHERE": "${env.REGION}", "PYTHON": "${python}"},
        }
    )
    project.serve()
    seen = told(project)
    assert seen["OWN_URL"] == project.daemon("worker").url
    assert (seen["WHERE"], seen["PYTHON"]) == (project.env["REGION"], sys.executable)


def test_a_variable_that_is_not_set_is_named_before_anything_starts(project: Project) -> None:
    project.configure(worker={"command": ["true", "${env.NO_SUCH_VARIABLE}"]})
    ended = project.run("serve")
    assert ended.returncode == 2
    assert "daemons.worker.command[1]" in ended.stderr
    assert "the environment variable NO_SUCH_VARIABLE is not set" in ended.stderr
    assert not project.state.path.exists()


def test_the_path_begins_with_the_interpreter_s_programs_once() -> None:
    assert SCRIPTS in search_path(None).split(os.pathsep)
    twice = search_path(search_path(f"/usr/bin:{SCRIPTS}:/bin"))
    assert twice.split(os.pathsep).count(SCRIPTS) == 1
    if IN_A_VENV:
        assert twice == f"{SCRIPTS}:/usr/bin:/bin"
    assert inherited({"A": "1", "PATH": "/bin"})["A"] == "1"
    assert references({"A": "1"})["env.A"] == "1"


def test_outside_a_virtual_environment_the_user_s_order_of_programs_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    scripts = sysconfig.get_path("scripts")  # since 3.14 it is another one then
    assert search_path(f"/mine:{scripts}:/bin") == f"/mine:{scripts}:/bin"
    assert search_path("/bin") == f"{scripts}:/bin"


def test_the_project_s_environment_does_not_change(project: Project, tmp_path: Path) -> None:
    environ = {"PATH": "/bin", "X": "1"}
    inherited(environ)
    assert environ == {"PATH": "/bin", "X": "1"}
