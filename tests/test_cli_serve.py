"""``serve --require`` and ``serve --takeover``."""

from __future__ import annotations

import pytest

from neo_daemons.control.client import ControlError

from .harness import PATIENCE_S, Project, toy


def test_reloading_stopping_or_removing_a_starting_required_daemon_does_not_stop_serve(project: Project) -> None:
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
    with pytest.raises(ControlError, match="unknown daemon"):
        project.client.why("api")
    assert supervisor.poll() is None


def test_serve_exits_with_5_if_a_starting_required_daemon_exits_by_itself(project: Project) -> None:
    project.configure(api=toy("exit=0", restart={"when": "never"}, ready={"type": "file", "path": "/nowhere"}))
    supervisor = project.serve("--require", "api", wait=False)
    assert supervisor.wait(PATIENCE_S) == 5
    assert "a required daemon cannot run: api: stopped" in project.output()
