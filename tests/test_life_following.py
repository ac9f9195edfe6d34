"""A daemon does not go on with a port of another one, or a run of it, that is no longer there."""

from __future__ import annotations

import json
import socket

import pytest

from neo_daemons.control.client import Client

from .harness import FAST, PATIENCE_S, Project, free_port, kill, toy, until

pytestmark = pytest.mark.long

DB = {"restart": FAST}
CASCADE = [{"name": "db", "cascade": True}]


def recycled(project: Project, name: str) -> list[str | None]:
    return [detail for event, detail in project.events(name) if event == "outdated"]


def test_a_daemon_is_restarted_when_a_port_that_it_was_given_has_changed(project: Project) -> None:
    old, new = free_port(), free_port()

    def configure(port: int) -> None:
        project.configure(
            db=toy(port=port),
            api=toy(env={"DB": "${daemons.db.port}"}),
            front=toy(env={"API": "${daemons.api.url}"}),
            reader=toy(exports={"DB": "${daemons.db.port}"}),
        )

    configure(old)
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("db", "api", "front", "reader")}
    configure(new)
    assert project.run("reload").returncode == 0
    project.back("api", before["api"])
    assert recycled(project, "api") == [f"daemons.db.port changed from {old} to {new}"]
    # Its own port is the same as before, so what refers to it is left alone; exports are for programs.
    project.client.order("api", "restart", wait_s=PATIENCE_S)
    assert project.daemon("front").pid == before["front"]
    assert project.daemon("reader").pid == before["reader"]
    assert project.daemon("api").restarts == 1


def test_a_url_that_is_reloaded_restarts_those_who_use_it(project: Project) -> None:
    def configure(db: str, remote: str) -> None:
        project.configure(
            db=toy(url=f"redis://{db}"),
            remote={"external": f"http://127.0.0.1:{remote}"},
            api=toy(env={"DB": "${daemons.db.url}", "REMOTE": "${daemons.remote.url}"}),
        )

    configure("me:secret@one", "1")
    project.serve()
    first = project.reaches("api", "ready")
    db = project.reaches("db", "ready").pid
    configure("me:secret@two", "1")
    assert project.run("reload").returncode == 0
    second = project.back("api", first.pid)
    configure("me:secret@two", "2")
    assert project.run("reload").returncode == 0
    project.back("api", second.pid)
    assert recycled(project, "api") == [
        "daemons.db.url changed from redis://***@one to redis://***@two",
        "daemons.remote.url changed from http://127.0.0.1:1 to http://127.0.0.1:2",
    ]
    assert project.daemon("db").pid == db


def test_a_survivor_is_restarted_when_its_port_changed_while_nobody_watched(project: Project) -> None:
    project.configure(db=toy(), api=toy(env={"DB": "${daemons.db.port}"}), other=toy())
    project.serve()
    before = {name: project.reaches(name, "ready") for name in ("db", "api", "other")}
    project.kill_supervisor()
    kill(before["db"].pid)
    port = before["db"].ports["main"]
    listener = until(lambda: _taken(port), "the port of the killed daemon")
    with listener:
        project.serve()
        project.back("db", before["db"].pid)
        after = project.back("api", before["api"].pid)
        changed = f"daemons.db.port changed from {port} to {project.daemon('db').ports['main']}"
        assert recycled(project, "api") == [changed]
        assert not after.adopted
        assert project.reaches("other", "ready").pid == before["other"].pid


def _taken(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


def test_a_cascade_follows_each_restart_once(project: Project) -> None:
    project.configure(
        db=toy(**DB),
        api=toy(requires=CASCADE),
        front=toy(requires=[{"name": "api", "cascade": True}]),
        plain=toy(requires=["db"]),
    )
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("db", "api", "front", "plain")}
    kill(before["db"])
    project.back("db", before["db"])
    second = project.back("api", before["api"])
    project.back("front", before["front"])
    assert project.client.why("api").failures == 0
    project.client.order("db", "restart", wait_s=PATIENCE_S)
    third = project.back("api", second.pid)
    assert third.restarts == 2
    assert third.cascades == ("db",)
    assert recycled(project, "api") == ["db was restarted"] * 2
    assert project.daemon("plain").pid == before["plain"]


def test_a_cascade_follows_a_requirement_that_a_reload_has_replaced(project: Project) -> None:
    project.configure(db=toy(), api=toy(requires=CASCADE))
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("db", "api")}
    project.configure(db=toy(env={"A": "1"}), api=toy(requires=CASCADE))
    assert project.run("reload").returncode == 0
    project.back("db", before["db"])
    project.back("api", before["api"])
    assert recycled(project, "api") == ["db was restarted"]


def test_an_adopted_daemon_cascades_from_what_died_meanwhile(project: Project) -> None:
    project.configure(db=toy(), api=toy(requires=["db"]))
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("db", "api")}
    project.configure(db=toy(), api=toy(requires=CASCADE))
    assert project.run("reload").stdout.splitlines()[1].startswith("apply")
    assert project.daemon("api").pid == before["api"]
    project.kill_supervisor()
    project.serve()
    assert project.reaches("db", "ready").pid == before["db"]
    assert project.reaches("api", "ready").pid == before["api"]
    project.kill_supervisor()
    kill(before["db"])
    project.serve()
    project.back("api", before["api"])
    assert recycled(project, "api") == ["db was restarted"]


def test_a_cascade_waits_while_tests_use_the_daemon(project: Project) -> None:
    project.configure(db=toy(**DB), api=toy(requires=CASCADE))
    project.serve()
    db, api = (project.reaches(name, "ready").pid for name in ("db", "api"))
    with Client(project.state).lease("a test", inhibit="*"):
        kill(db)
        project.back("db", db)
        until(lambda: recycled(project, "api"), "a word about the wait")
        assert recycled(project, "api") == ["db was restarted; not restarted while it is on hold or tests use it"]
        assert project.daemon("api").pid == api
    project.back("api", api)


def test_a_daemon_on_hold_is_restarted_for_a_changed_port_when_it_is_released(project: Project) -> None:
    def configure(port: int) -> None:
        project.configure(db=toy(port=port), api=toy(env={"DB": "${daemons.db.port}"}))

    configure(free_port())
    project.serve()
    api, db = project.reaches("api", "ready"), project.reaches("db", "ready")
    project.client.order("api", "hold", wait_s=PATIENCE_S)
    configure(free_port())
    assert project.run("reload").returncode == 0
    project.back("db", db.pid)
    until(lambda: recycled(project, "api"), "the change")
    assert "not restarted while it is on hold" in (recycled(project, "api")[0] or "")
    assert project.daemon("api").pid == api.pid
    project.client.order("api", "release", wait_s=PATIENCE_S)
    project.back("api", api.pid)


def test_a_requirement_is_a_name_or_a_table(project: Project) -> None:
    project.configure(
        db={"external": "http://127.0.0.1:1"},
        a=toy("quiet", requires=[{"name": "dv", "cascade": True}]),
        b=toy("quiet", requires=CASCADE),
    )
    said = project.run("serve").stderr
    assert "daemons.a.requires[0]" in said, said
    assert "unknown daemon; use one of: db, a, b" in said, said
    assert "daemons.b.requires[0].cascade" in said, said
    for wrong, expected in (
        ({"cascade": True}, "daemons.a.requires[0].name: missing"),
        ({"name": "a", "cascad": 1}, "did you mean 'cascade'?"),
        (3, "use a list of names and tables"),
    ):
        project.configure(a=toy("quiet", requires=[wrong]))
        said = project.run("serve").stderr
        assert expected in said, said
        assert "Traceback" not in said, said


def test_what_a_daemon_was_started_with_is_in_its_record(project: Project) -> None:
    project.configure(db=toy(), api=toy(requires=CASCADE, env={"DB": "${daemons.db.port}"}))
    project.serve()
    project.reaches("api", "ready")
    db, api = (json.loads(project.state.daemon_record(name).read_text()) for name in ("db", "api"))
    assert api["used"] == {"daemons.db.port": str(db["ports"]["main"])}
    assert api["runs_below"] == {"db": db["token"]}
    assert db["used"] == db["runs_below"] == {}
