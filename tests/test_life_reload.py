"""Reload: only what has changed is touched."""

from __future__ import annotations

import signal

import pytest

from .harness import PATIENCE_S, TOY, Child, Project, free_port, is_alive, kill, toy, until

pytestmark = pytest.mark.long


def test_reload_touches_only_what_changed_and_a_dry_run_nothing(project: Project) -> None:
    project.configure(a=toy(), b=toy(), c=toy(), gone=toy())
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("a", "b", "c", "gone")}
    project.configure(
        a=toy(), b=toy(env={"X": "1"}), c=toy(stop={"grace_s": 1.0}, restart="on-failure"), new=toy("quiet")
    )
    planned = project.run("reload", "--dry-run")
    assert {name: project.daemon(name).pid for name in before} == before
    done = project.run("reload")
    assert planned.stdout == done.stdout
    assert [line.split(":")[0].split() for line in done.stdout.splitlines()] == [
        ["stop", "gone"],
        ["keep", "a"],
        ["replace", "b"],
        ["apply", "c"],
        ["start", "new"],
    ]
    project.reaches("new", "ready")
    project.back("b", before["b"])
    assert project.daemon("a").pid == before["a"]
    assert project.daemon("c").pid == before["c"]
    assert [daemon.name for daemon in project.client.status().daemons] == ["a", "b", "c", "new"]
    assert before["gone"] is not None
    assert not is_alive(before["gone"])


def test_a_run_is_as_stable_as_the_reloaded_configuration_says(project: Project) -> None:
    project.configure(api=toy(restart={"stable_s": 600.0}))
    project.serve()
    first = project.reaches("api", "ready")
    kill(first.pid)
    project.back("api", first.pid)
    assert project.client.why("api").failures == 1
    project.configure(api=toy(restart={"stable_s": 0.01}))
    assert project.run("reload").stdout.startswith("apply")
    until(lambda: project.client.why("api").failures == 0, "what failed before is forgotten")


def test_a_reload_keeps_to_what_an_operator_has_ordered(project: Project) -> None:
    def configure(value: str) -> None:
        project.configure(
            wanted=toy("quiet", enabled=False, env={"X": value}),
            unwanted=toy("quiet", enabled=False, env={"X": value}),
            stopped=toy("quiet", env={"X": value}),
        )

    configure("1")
    project.serve()
    project.reaches("stopped", "ready")
    project.client.order("stopped", "stop", wait_s=PATIENCE_S)
    first = project.client.order("wanted", "start", wait_s=PATIENCE_S)
    assert first.ready
    configure("2")
    assert project.run("reload").returncode == 0
    project.back("wanted", first.pid)
    assert project.daemon("stopped").state == "stopped"
    assert project.daemon("unwanted").state == "stopped"


def test_a_daemon_on_hold_does_not_even_begin_to_start_when_its_definition_changes(project: Project) -> None:
    project.configure(api=toy("quiet"))
    project.serve()
    project.reaches("api", "ready")
    project.client.order("api", "stop", wait_s=PATIENCE_S)
    project.client.order("api", "hold", wait_s=PATIENCE_S)
    assert project.daemon("api").state == "held"
    before = len(project.events("api"))
    project.configure(api=toy("quiet", env={"X": "1"}))
    assert project.run("reload").stdout.startswith("replace")
    assert project.daemon("api").state == "held"
    assert "starting" not in [event for event, _ in project.events("api")[before:]]
    project.client.order("api", "release", wait_s=PATIENCE_S)
    project.reaches("api", "ready")


def test_an_external_daemon_is_observed_after_a_reload_while_it_is_enabled(project: Project) -> None:
    port = free_port()
    live = {"type": "http", "url": f"http://127.0.0.1:{port}", "interval_s": 0.05, "timeout_s": 1.0}
    external = {"external": f"http://127.0.0.1:{port}", "live": live}
    with Child([*TOY, f"port={port}"]) as theirs:
        try:
            project.configure(theirs=toy("quiet"))
            project.serve()
            project.reaches("theirs", "ready")
            project.client.order("theirs", "stop", wait_s=PATIENCE_S)
            for enabled in (True, False, True):
                project.configure(theirs={**external, "enabled": enabled})
                assert project.run("reload").returncode == 0
                if enabled:
                    until(lambda: project.daemon("theirs").ready, "the external daemon to be ready")
                else:
                    assert not project.daemon("theirs").ready
                    assert project.daemon("theirs").detail == "not enabled in the configuration"
        finally:
            theirs.kill()


def test_sighup_reloads_and_a_bad_configuration_changes_nothing(project: Project) -> None:
    project.configure(api=toy())
    supervisor = project.serve()
    pid = project.reaches("api", "ready").pid
    (project.root / "neo-daemons.toml").write_text("[daemons.api]\ncommand = 3\n")
    supervisor.send_signal(signal.SIGHUP)
    until(lambda: any(event == "reload-refused" for event, _ in project.events()), "the refusal")
    refused = project.run("reload")
    assert refused.returncode == 1
    assert "daemons.api.command = 3" in refused.stderr
    assert project.daemon("api").pid == pid
    project.configure(api=toy(), more=toy())
    supervisor.send_signal(signal.SIGHUP)
    until(lambda: len(project.client.status().daemons) == 2, "the new daemon")
    project.reaches("more", "ready")
