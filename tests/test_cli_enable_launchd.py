"""``enable`` and ``disable`` on macOS, as far as a launchctl that records its arguments can show."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys

import pytest

from neo_daemons.render.installation import HEADER, name_of

from .harness import PATIENCE_S, PROGRAMS, Project, toy

pytestmark = pytest.mark.long

LAUNCHCTL = """#!/bin/sh
cd {place}
case "$1" in
print) test -e loaded; exit ;;
esac
echo "$@" >> calls
case "$1" in
bootstrap) test ! -e loaded && touch loaded ;;
bootout) rm loaded ;;
esac
"""


class Launchd:
    """A stand-in for launchctl, which refuses to load what is loaded, and what it was told."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.place = project.root / "bin"
        self.place.mkdir()
        (self.place / "launchctl").write_text(LAUNCHCTL.format(place=self.place))
        (self.place / "launchctl").chmod(0o755)
        home = project.root / "home"
        self.label = name_of(project.state.path)
        self.agents = home / "Library/LaunchAgents"
        self.agent = self.agents / f"{self.label}.plist"
        project.env |= {"HOME": str(home), "PATH": f"{self.place}:{os.environ['PATH']}"}
        self.domain = f"gui/{os.getuid()}"
        self.enable = f"enable {self.domain}/{self.label}"
        self.bootstrap = f"bootstrap {self.domain} {self.agent}"
        self.bootout = f"bootout {self.domain}/{self.label}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROGRAMS / "as_on_macos.py"), *arguments],
            cwd=self.project.root,
            env=self.project.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def calls(self) -> list[str]:
        """What it was told since the last look, questions left out."""
        path = self.place / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def launchd(project: Project) -> Launchd:
    project.configure(api=toy("quiet"))
    return Launchd(project)


def test_enable_loads_an_agent_and_disable_leaves_nothing(project: Project, launchd: Launchd) -> None:
    done = launchd.run("enable", "--yes")
    assert done.returncode == 0, done.stderr
    assert launchd.calls() == [launchd.enable, launchd.bootstrap]
    assert HEADER in launchd.agent.read_text()
    content = plistlib.loads(launchd.agent.read_bytes())
    assert content["StandardOutPath"] == str(project.state.supervisor_log)
    assert project.state.path.is_dir()  # launchd opens the log, but makes no directory for it

    done = launchd.run("disable", "--yes")
    assert done.returncode == 0, done.stderr
    assert launchd.calls() == [launchd.bootout]
    assert list(launchd.agents.iterdir()) == []
    assert launchd.run("disable", "--yes").returncode == 0
    assert launchd.calls() == []


def test_what_is_loaded_is_unloaded_before_it_is_loaded_again(launchd: Launchd) -> None:
    launchd.run("enable", "--yes")
    launchd.calls()
    assert launchd.run("enable", "--yes").returncode == 0  # its supervisor is not running
    assert launchd.calls() == [launchd.enable, launchd.bootout, launchd.bootstrap]


def test_what_runs_as_it_should_is_left_alone(project: Project, launchd: Launchd) -> None:
    launchd.run("enable", "--yes")
    launchd.calls()
    project.serve()
    assert launchd.run("enable", "--yes").returncode == 0
    assert launchd.calls() == [launchd.enable]


def test_a_running_supervisor_hands_over_first(project: Project, launchd: Launchd) -> None:
    supervisor = project.serve()
    done = launchd.run("enable", "--yes")
    assert done.returncode == 0, done.stderr
    assert "its daemons keep running" in done.stdout
    assert supervisor.wait(PATIENCE_S) == 0
    project.serve()  # in the place of launchd
    assert project.reaches("api", "ready").adopted


def test_disable_removes_an_agent_that_is_not_loaded(launchd: Launchd) -> None:
    launchd.run("enable", "--yes")
    (launchd.place / "loaded").unlink()
    launchd.calls()
    assert launchd.run("disable", "--yes").returncode == 0
    assert launchd.calls() == []
    assert not launchd.agent.exists()


def test_there_is_no_agent_for_the_system(launchd: Launchd) -> None:
    done = launchd.run("enable", "--yes", "--system")
    assert done.returncode == 1
    assert "--system needs systemd" in done.stderr
