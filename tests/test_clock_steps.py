"""The wall clock is stepped under a real supervisor. The simulation does that at every moment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from neo_daemons.supervision.platform import PLATFORM_VARIABLE

from .harness import FAST, PROGRAMS, Project, kill, toy

STEPS_S = (2, -2, 3600, -3600)


@pytest.mark.long
@pytest.mark.parametrize("platform", ["posix", "linux-without-pidfds"])
def test_daemons_are_adopted_and_left_alone_when_the_clock_is_stepped(
    project: Project, tmp_path: Path, platform: str
) -> None:
    """Their start on the wall clock was a part of their identity: after a step of two seconds a living daemon was
    "gone", and was ended as a leftover."""
    project.env[PLATFORM_VARIABLE] = platform
    offset = tmp_path / "offset"
    offset.write_text("0")
    machine = (sys.executable, str(PROGRAMS / "stepped_clock.py"), str(offset))
    project.configure(
        api=toy(restart=FAST, live={"type": "http", "interval_s": 0.05}), base={"command": ["sleep", "600"]}
    )
    project.serve(prefix=machine)
    pids = {name: project.reaches(name, "ready").pid for name in ("api", "base")}
    began = float(project.client.status().supervisor.started_at)
    for step_s in STEPS_S:
        offset.write_text(str(step_s))
        kill(pids["api"])  # what is supervised goes on
        pids["api"] = project.back("api", pids["api"]).pid
        assert project.daemon("base").pid == pids["base"]
        project.kill_supervisor()
        project.serve(prefix=machine)
        assert {name: project.reaches(name, "ready").pid for name in pids} == pids
        started_at = project.client.status().supervisor.started_at
        assert abs(started_at - began - step_s) < 600, "the supervisor lives by the other clock"
    ends = [event for event, _ in project.events() if event in ("exit", "swept", "record-foreign")]
    assert ends == ["exit"] * len(STEPS_S)
    project.stop()
