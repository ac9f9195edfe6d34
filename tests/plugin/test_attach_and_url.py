"""Daemons that are not the run's own: those of a serve, and those that are given by a URL."""

from __future__ import annotations

import time

import pytest

from neo_daemons.config.external import external
from pytest_neo_daemons.sessions import RECOVERY_S
from tests.harness import PATIENCE_S, TOY, Child, Project, free_port, until

from .inner import HTTP, MODES, OVERRIDE, Inner, accepts, messages, results

pytestmark = pytest.mark.long


@pytest.mark.oldest
@MODES
def test_attached_tests_use_the_daemons_of_a_running_supervisor_and_leave_them_alone(
    inner: Inner, project: Project, mode: tuple[str, ...]
) -> None:
    inner.configure(api=inner.toy(), changed=inner.toy(), down=inner.toy(exports={"DOWN": "http://${host}:${port}"}))
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("api", "changed", "down")}
    project.client.order("down", "stop", wait_s=PATIENCE_S)
    inner.write("conftest.py", OVERRIDE.format(colour="'blue'").replace("api", "changed"))
    inner.env["PID"] = str(before["api"])
    inner.copy("attached.py", "test_attached.py")
    outcome = inner.run("--neo-daemons-attach", *mode)
    serve = project.client.status()
    assert {daemon.name: daemon.pid for daemon in serve.daemons} == {**before, "down": None}
    assert project.daemon("down").state == "stopped"
    assert inner.starts() == 3
    assert inner.supervisors() == []
    wanted = {f"test_same[{n}]": "passed" for n in range(2)}
    wanted |= {f"test_refused[{fault}]": "passed" for fault in ("kill", "pause", "stop", "restart")}
    wanted |= dict.fromkeys(("test_isolated", "test_changed", "test_down"), "error")
    assert results(outcome) == wanted, outcome.text
    said = messages(outcome)
    assert "new_daemon('api') is not possible: it belongs to an attached supervisor" in said["test_isolated"]
    assert "it is stopped" in said["test_down"]
    assert "tests must not change an attached supervisor" in said["test_down"]
    project.stop()
    assert "cannot change the definition of changed: it belongs to an attached supervisor" in said["test_changed"], (
        outcome.text
    )


@pytest.mark.parametrize(
    ("setting", "arguments"),
    [
        ("neo_daemons_attach = ../../.neo-daemons", ["--rootdir=.."]),
        ("", ["--neo-daemons-attach", "--rootdir=.."]),
        ("", ["--neo-daemons-attach", "--neo-daemons-config=../neo-daemons.toml"]),
    ],
    ids=["setting", "root", "config"],
)
def test_attach_looks_for_the_supervisor_of_the_project(
    inner: Inner, project: Project, setting: str, arguments: list[str]
) -> None:
    inner.configure(api=inner.toy())
    project.serve()
    project.reaches("api", "ready")
    inner.write("ini/deep/pytest.ini", f"[pytest]\n{setting}\n")
    inner.write("away/neo-daemons.toml", '[daemons.wrong]\nexternal = "http://127.0.0.1:1"\n')
    inner.write("away/test_on.py", "def test_api(api): assert api.pid\n")
    root = inner.root
    inner.root = root / "away"
    outcome = inner.run("-c", "../ini/deep/pytest.ini", *arguments)
    inner.root = root
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert inner.starts() == 1


def test_nobody_waits_for_an_attached_supervisor_that_has_exited(inner: Inner, project: Project) -> None:
    inner.configure(api=inner.toy())
    serve = project.serve()
    inner.env["SERVE"] = str(serve.pid)
    inner.copy("attached_gone.py", "test_gone.py")
    began = time.monotonic()
    outcome = inner.run("--neo-daemons-attach")
    assert time.monotonic() - began < RECOVERY_S, outcome.text
    assert results(outcome) == {"test_gone": "passed", "test_after": "error"}, outcome.text


def test_a_daemon_given_by_its_url_is_used_and_never_signalled(inner: Inner) -> None:
    port, dead = free_port(), free_port()
    inner.configure(own=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.env["PORT"] = str(port)
    inner.copy("given_by_url.py", "test_url.py")
    with Child([*TOY, f"port={port}"]) as process:
        try:
            until(lambda: accepts(port), "the toy's port")
            outcome = inner.run(
                "--neo-daemons-url",
                f"api=http://127.0.0.1:{port}",
                "--neo-daemons-url",
                f"dead=http://127.0.0.1:{dead}",
            )
            assert process.poll() is None
        finally:
            process.kill()
    assert outcome.counts() == {"error": 2, "passed": 6}, outcome.text
    said = messages(outcome)
    assert "api cannot be isolated because it is external" in said["test_isolated"]
    assert f"http://127.0.0.1:{dead} is not usable" in said["test_dead"]
    assert inner.starts() == 1


@pytest.mark.parametrize(
    ("name", "url", "exports"),
    [
        ("mlx", "http://llm:8080", {"OPENAI_BASE_URL": "http://llm:8080/v1"}),
        ("mlx", "https://llm.example.com/", {"OPENAI_BASE_URL": "https://llm.example.com/v1"}),
        ("mlx", "https://llm.example.com/api/v1", {"OPENAI_BASE_URL": "https://llm.example.com/api/v1"}),
        ("chroma", "https://db", {"CHROMA_HOST": "db", "CHROMA_PORT": "443", "CHROMA_URL": "https://db"}),
        ("chroma", "http://db/$x", {"CHROMA_HOST": "db", "CHROMA_PORT": "80", "CHROMA_URL": "http://db/$$x"}),
    ],
)
def test_exports_of_an_external_daemon_point_to_its_url(name: str, url: str, exports: dict[str, str]) -> None:
    assert external(name, url).exports == exports


def test_a_bridge_given_by_its_url_has_no_graph_and_says_why(inner: Inner) -> None:
    inner.write("test_graph.py", "def test_graph(bridge_graph): pass\n")
    port = free_port()
    with Child([*TOY, f"port={port}"]) as process:
        try:
            until(lambda: accepts(port), "the toy's port")
            outcome = inner.run("--neo-daemons-url", f"bridge=http://127.0.0.1:{port}")
        finally:
            process.kill()
    assert outcome.counts() == {"error": 1}, outcome.text
    assert "NEO_MEMORY_DB_PATH and NEO_AI_DAEMON_DIR" in messages(outcome)["test_graph"]
