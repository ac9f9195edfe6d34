"""``neo-daemons health``, and the observers of the daemons that a project configures."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from neo_daemons.config import ConfigError
from neo_daemons.health import project_observers
from neo_daemons.state_dir import StateDir
from tests.harness import PATIENCE_S, Project, free_port, toy

from .answers import CHROMA, Handler, Server, routes, says

pytestmark = pytest.mark.long


def test_the_exit_code_says_how_the_worst_is(project: Project, serve: Callable[[Handler], Server]) -> None:
    good, bad = serve(says(200)).url, serve(says(503)).url
    half = serve(routes(**CHROMA | {"collections_count": says(404)})).url
    assert project.run("health").returncode == 2, "nothing was started"
    assert not project.state.path.exists()
    for arguments, code in (
        (("api", "--url", good), 0),
        (("chroma", "--url", half), 1),
        (("api", "--url", bad), 2),
        (("api", "other", "--url", f"api={good}", "--url", f"other={bad}"), 2),
    ):
        done = project.run("health", *arguments)
        assert done.returncode == code, done
        assert done.stdout.startswith(f"{arguments[0]}: ")
        assert not done.stderr
    seen = json.loads(project.run("health", "api", "--url", bad, "--json").stdout)
    assert (seen["status"], seen["daemons"][0]["details"]["http_status"]) == ("unhealthy", 503)
    state = StateDir(project.state.path)
    state.create()
    state.daemon_record("api").write_bytes(b"{")
    project.configure(api=toy())
    assert project.run("health").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "unknown daemon 'nope'; enabled daemons: api"),
        (("@db",), "'@db' is no name of a daemon; enabled daemons: api\n"),
        (("--url", "http://127.0.0.1:1"), "does not say which daemon; use --url NAME=http://127.0.0.1:1"),
        (("api", "--url", "api=nonsense"), "'nonsense' is not a URL; use e.g."),
        (("--wait", "soon"), "invalid value 'soon'; expected seconds"),
        (("--bogus",), "unrecognized arguments: --bogus"),
        (("--config", "/nonexistent.toml"), "cannot be read"),
    ],
)
def test_what_cannot_be_looked_at_is_one_clear_error(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    project.configure(api=toy())
    done = project.run("health", *arguments)
    assert done.returncode == 3, done
    assert message in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


def test_exit_codes_do_not_lie_where_nothing_can_be_told(project: Project) -> None:
    project.configure(api={**toy(), "enabled": False})
    done = project.run("health")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no daemon is enabled in this project" in done.stderr
    assert "no daemon is enabled" in project.run("health", "api").stderr

    def bash(script: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-c", script]
        return subprocess.run(
            command, cwd=project.root, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    url = f"http://127.0.0.1:{free_port()}"
    command = f"{shlex.quote(sys.executable)} -m neo_daemons health api --url {url}"
    for pipe, code in ((f"{command} | true; exit ${{PIPESTATUS[0]}}", 2), (f"{command} > /dev/full", 3)):
        ended = bash(pipe)
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr
    ended = bash(f"mkdir gone; cd gone; rmdir ../gone; {shlex.quote(sys.executable)} -m neo_daemons health")
    assert ended.returncode == 3, ended


def test_the_command_waits_for_what_somebody_else_starts(project: Project) -> None:
    project.configure(api=toy())
    assert project.run("health", "--wait", "0.2").returncode == 2
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(project.run, "health", "--wait", str(PATIENCE_S))
        project.serve()
        assert waiting.result().returncode == 0


def test_every_configured_daemon_has_the_observer_that_fits(project: Project) -> None:
    project.configure(
        web={**toy(), "ready": {"type": "http", "path": "/p", "status": [200, 501]}},
        posted={**toy(), "ready": {"type": "http", "method": "POST"}},
        raw={**toy(), "ready": {"type": "tcp"}},
        worker=toy("quiet"),
        chroma={"port": "auto", "enabled": False},
        theirs={"external": "http://127.0.0.1:1"},
    )
    observers = project_observers(directory=project.root, urls={"mlx": "http://127.0.0.1:2"})
    kinds = {name: type(observer).__name__ for name, observer in observers.items()}
    assert kinds == {
        "web": "HttpObserver",
        "posted": "TcpObserver",
        "raw": "TcpObserver",
        "worker": "ProcessObserver",
        "theirs": "HttpObserver",
        "mlx": "MlxObserver",
    }
    project.serve()
    for name in ("web", "posted", "raw", "worker"):
        project.reaches(name, "ready", "running")
        seen = observers[name].check()
        assert (seen.status, seen.managed, seen.pid) == ("healthy", True, project.daemon(name).pid), seen
    with pytest.raises(ConfigError, match="is not a URL"):
        project_observers(directory=project.root, urls={"mlx": "nonsense"})


def test_a_configured_external_daemon_is_looked_at_where_the_configuration_says(
    project: Project, serve: Callable[[Handler], Server]
) -> None:
    server = serve(lambda request: says(503 if request.path == "/health?deep" else 404)(request))
    probe = {"type": "http", "url": f"{server.url}/health?deep", "status": [200]}
    project.configure(theirs={"external": server.url, "ready": probe})
    assert project.run("health").returncode == 2
    assert server.requests == ["GET /health?deep"]


def test_the_command_that_starts_a_project_of_another_file_names_the_file(project: Project) -> None:
    project.configure(api=toy())
    (project.root / "neo-daemons.toml").rename(project.root / "other.toml")
    for file, command in (
        (project.root / "other.toml", f"up --config {project.root}/other.toml"),
        (None, f"cd {project.root} && {shlex.quote(sys.executable)} -m neo_daemons up"),
    ):
        if file is None:
            (project.root / "other.toml").rename(project.root / "neo-daemons.toml")
        observer = project_observers(file, directory=project.root)["api"]
        assert observer.remedy(observer.check()).endswith(command)
