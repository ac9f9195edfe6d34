"""The product where Linux refuses what macOS refuses: a part of ``tox -e macos-refusals``, in every run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from neo_daemons.supervision.platform import PLATFORM_VARIABLE

from .harness import Project, is_alive, until
from .macos.__main__ import PACKAGE, copy


@pytest.fixture
def project(project: Project, tmp_path: Path) -> Project:
    """A project whose supervisors and commands see macOS."""
    project.env.pop(PLATFORM_VARIABLE, None)
    site = tmp_path / "site"
    site.mkdir()
    copy(site)
    (site / "sitecustomize.py").write_text(f"import {PACKAGE}\n{PACKAGE}.install()\n")
    project.env["PYTHONPATH"] = str(site)
    return project


@pytest.mark.long
def test_a_daemon_that_withholds_its_environment_is_supervised_adopted_and_ended(project: Project) -> None:
    """It has no mark, as programs of the system do not on macOS, so only its identity and its lock tell whose it is."""
    project.configure(base={"command": ["sleep", "600"]})
    project.serve()
    pid = project.reaches("base", "ready").pid
    assert pid is not None
    assert project.client.status().supervisor.platform == "darwin"
    said = project.run("doctor")
    assert (said.returncode, f"pid {pid}" in said.stdout) == (0, False), "it has a supervisor"
    assert project.run("health", "base").returncode == 0
    project.kill_supervisor()
    said = project.run("doctor")
    assert f"base: pid {pid} (sleep 600) of {project.state.path} has no supervisor" in said.stdout
    project.serve()
    adopted = project.reaches("base", "ready")
    assert (adopted.pid, adopted.adopted) == (pid, True)
    os.kill(pid, signal.SIGKILL)
    again = project.back("base", pid)
    assert "SIGKILL" in str(project.events("base")), "kqueue tells how it ended"
    assert project.run("down").returncode == 0
    assert again.pid is not None
    until(lambda: not is_alive(again.pid or 0), "its end")
