"""What requires a daemon that will not come says so and why, fails whoever needs it, and starts when it comes after
all."""

from __future__ import annotations

import contextlib
import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from .harness import FAST, PATIENCE_S, Project, free_port, toy, until

pytestmark = pytest.mark.long

Table = dict[str, Any]
Order = Literal["start", "stop", "hold", "release"]
EXITS = [sys.executable, "-c", "raise SystemExit(3)"]


class Way:
    """A way in which a requirement cannot come.

    Args:
        table: of the required daemon.
        prevent: done before the dependant starts.
        why: found in the dependant's detail.
        mend: done so that the requirement comes after all.
        remedy: of the dependant.
    """

    def __init__(
        self,
        table: Callable[[Project], Table],
        why: str,
        mend: Callable[[Project], Any],
        *,
        prevent: Callable[[Project], Any] = lambda project: None,
        remedy: str | None = None,
    ) -> None:
        self.table, self.why, self.mend, self.prevent, self.remedy = table, why, mend, prevent, remedy


def order(what: Order, name: str) -> Callable[[Project], Any]:
    return lambda project: project.client.order(name, what, wait_s=PATIENCE_S)


def fails_if_broken(project: Project, **settings: Any) -> Table:
    (project.root / "broken").touch()
    return toy(f"fail-if={project.root / 'broken'}", restart={**FAST, "limit": 1}, **settings)


def mend_and_start(project: Project) -> None:
    (project.root / "broken").unlink()
    order("start", "db")(project)


def once(project: Project) -> Table:
    (project.root / "broken").touch()
    command = [sys.executable, "-c", "raise SystemExit(__import__('os').path.exists('broken'))"]
    return {"command": command, "oneshot": True, "restart": "never"}


def reload_with(**table: Any) -> Callable[[Project], Any]:
    def reload(project: Project) -> None:
        project.configure(db=toy(**table), app=toy(requires=["db"]), front=toy(requires=["app"]))
        assert project.run("reload").returncode == 0
        order("start", "db")(project)

    return reload


WAYS = {
    "stopped": Way(
        lambda project: toy(),
        "stopped: stop requested by a user",
        order("start", "db"),
        prevent=order("stop", "db"),
        remedy="start db",
    ),
    "held": Way(
        lambda project: toy(),
        "held",
        order("release", "db"),
        prevent=lambda project: (order("stop", "db")(project), order("hold", "db")(project)),
        remedy="release db",
    ),
    "disabled": Way(
        lambda project: toy(enabled=False),
        "stopped: not enabled in the configuration",
        order("start", "db"),
        remedy="start db",
    ),
    "parked": Way(fails_if_broken, "parked: restart limit reached", mend_and_start),
    "never restarted": Way(
        lambda project: fails_if_broken(project) | {"restart": "never"}, "parked: exit code 7", mend_and_start
    ),
    "exited and resting": Way(
        lambda project: {"command": ["true"], "restart": "on-failure"},
        "stopped: exit code 0; restart = 'on-failure'",
        reload_with(),
        prevent=lambda project: project.reaches("db", "stopped"),
        remedy="start db",
    ),
    "a oneshot that failed": Way(once, "parked: exit code 1", mend_and_start),
}


@pytest.mark.parametrize("name", WAYS)
def test_what_cannot_come_is_a_failure_of_what_requires_it(project: Project, name: str) -> None:
    way = WAYS[name]
    project.configure(
        db=way.table(project), app=toy(requires=["db"], enabled=False), front=toy(requires=["app"], enabled=False)
    )
    project.serve()
    until(lambda: project.daemon("db").settled or None, "an outcome")
    way.prevent(project)
    for daemon in ("app", "front"):
        # Not by a user's start, which starts what is required, too.
        table = {"db": way.table(project), "app": toy(requires=["db"]), "front": toy(requires=["app"])}
        if daemon == "app":
            table["front"] |= {"enabled": False}
        project.configure(**table)
        assert project.run("reload").returncode == 0
    app = project.reaches("app", "unavailable")
    assert app.detail is not None
    assert app.detail.startswith(f"requires db, which is {way.why}")
    assert (app.waiting_for, app.settled, app.ready, app.missing) == ("db", True, False, False)
    assert way.remedy is None or way.remedy in (app.remedy or "")
    front = project.reaches("front", "unavailable")
    assert front.detail == f"requires app, which is unavailable: {app.detail}"

    assert app.detail in project.run("why", "front").stdout
    needed = project.client.need("front", wait_s=PATIENCE_S)
    assert "db" in (needed.failure or "")
    up = project.run("up")
    assert (up.returncode, app.detail in up.stderr) == (1, True)
    assert ("unavailable", app.detail) in project.events("app")

    way.mend(project)
    project.reaches("front", "ready")


def test_an_external_daemon_that_does_not_answer_yet(project: Project) -> None:
    port = free_port()
    live = {"type": "http", "url": f"http://127.0.0.1:{port}/", "interval_s": 0.1}
    project.configure(db={"external": f"http://127.0.0.1:{port}", "live": live}, app=toy(requires=["db"]))
    project.serve()
    app = project.reaches("app", "unavailable")
    assert app.detail is not None
    assert app.detail.startswith("requires db, which is external: ")
    with _serving(port):
        project.reaches("app", "ready")


def test_what_is_not_installed(project: Project) -> None:
    project.configure(mlx={"model": "./model"}, app=toy(requires=["mlx"]))
    project.serve()
    reason = project.reaches("mlx", "unavailable")
    app = project.reaches("app", "unavailable")
    assert app.detail == f"requires mlx, which is unavailable: {reason.detail}"
    assert app.remedy == reason.remedy


def test_a_refused_start(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        project.configure(db=toy(port=taken.getsockname()[1]), app=toy(requires=["db"]))
        project.serve()
        app = project.reaches("app", "unavailable")
        assert "which is parked: cannot start db: port" in (app.detail or "")
    project.client.order("db", "start")
    project.reaches("app", "ready")


def test_an_order_ends_the_wait_and_a_stop_stays(project: Project) -> None:
    project.configure(db=toy(enabled=False), app=toy(requires=["db"]), other=toy(requires=["db"]))
    project.serve()
    project.reaches("app", "unavailable")
    project.client.order("app", "stop", wait_s=PATIENCE_S)
    stopped = project.daemon("app")
    assert (stopped.state, stopped.detail, stopped.waiting_for) == ("stopped", "stop requested by a user", None)
    project.client.order("other", "hold", wait_s=PATIENCE_S)
    assert project.daemon("other").state == "held"
    project.client.order("db", "hold", wait_s=PATIENCE_S)  # it still cannot come, for another reason
    project.client.order("db", "stop", wait_s=PATIENCE_S)
    project.client.order("db", "start", wait_s=PATIENCE_S)
    project.reaches("db", "ready")
    assert [project.daemon(name).state for name in ("app", "other")] == ["stopped", "held"]
    assert project.daemon("app").detail == stopped.detail
    project.client.order("other", "release", wait_s=PATIENCE_S)
    project.reaches("other", "ready")


@pytest.mark.parametrize("db", [{"enabled": False}, {"ready": {"type": "exec", "command": ["false"]}}])
def test_a_reload_that_requires_something_else_ends_the_wait(project: Project, db: Table) -> None:
    project.configure(db=toy(**db), app=toy(requires=["db"]))
    project.serve()
    until(lambda: project.daemon("app").waiting_for, "a wait")
    project.configure(db=toy(**db), app=toy())
    assert project.run("reload").returncode == 0
    assert project.reaches("app", "ready").waiting_for is None


def test_nothing_is_unavailable_while_a_reload_replaces_what_it_requires(project: Project) -> None:
    project.configure(db=toy(), app=toy(requires=["db"]))
    project.serve()
    project.reaches("app", "ready")
    project.configure(db=toy(env={"A": "1"}), app=toy(requires=["db"], env={"A": "1"}))
    assert project.run("reload").returncode == 0
    project.reaches("app", "ready")
    assert "unavailable" not in [event for event, _ in project.events("app")]


def test_nor_while_it_has_been_waiting_for_it(project: Project) -> None:
    ready = {"type": "exec", "command": ["test", "-e", str(project.root / "ready")]}
    project.configure(db=toy(ready=ready), app=toy(requires=["db"]))
    project.serve()
    project.reaches("db", "running")
    project.reaches("app", "starting")
    project.configure(db=toy(ready=ready, env={"A": "1"}), app=toy(requires=["db"]))
    assert project.run("reload").returncode == 0
    project.reaches("db", "running")
    (project.root / "ready").touch()
    project.reaches("app", "ready")
    assert [event for event, _ in project.events("app")] == ["starting", "running", "ready"]


@contextlib.contextmanager
def _serving(port: int) -> Iterator[None]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
