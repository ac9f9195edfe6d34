"""``serve``: what it requires, and what it takes over."""

from __future__ import annotations

import pytest

from neo_daemons.control.client import ControlError

from .harness import PATIENCE_S, Project, toy


def test_a_required_daemon_that_is_reloaded_stopped_or_removed_while_it_boots_ends_nothing(project: Project) -> None:
    beacon = project.root / "beacon"
    ready = {"type": "file", "path": str(beacon)}
    project.configure(api=toy(ready=ready))
    supervisor = project.serve("--require", "api")
    first = project.reaches("api", "running")
    project.configure(api=toy(ready=ready, env={"A": "1"}))
    assert [change.action for change in project.client.reload()] == ["replace"]
    second = project.reaches("api", "running")
    assert second.pid != first.pid
    assert project.client.order("api", "stop", wait_s=PATIENCE_S).state == "stopped"
    assert project.client.order("api", "start").state in ("starting", "running")
    project.configure(other=toy("quiet"))
    project.client.reload()
    project.reaches("other", "ready")
    with pytest.raises(ControlError, match="no daemon"):
        project.client.why("api")
    assert supervisor.poll() is None


def test_a_required_daemon_that_ends_by_itself_while_it_boots_still_ends_serve_with_5(project: Project) -> None:
    project.configure(api=toy("exit=0", restart={"when": "never"}, ready={"type": "file", "path": "/nowhere"}))
    supervisor = project.serve("--require", "api", wait=False)
    assert supervisor.wait(PATIENCE_S) == 5
    assert "required: api: stopped" in project.output()
