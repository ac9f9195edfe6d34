"""Daemons that are not the run's own: those of a serve, and those that are given by a URL."""

from __future__ import annotations

import time

import pytest

from neo_daemons.config.external import external
from pytest_neo_daemons.sessions import RECOVERY_S
from tests.harness import PATIENCE_S, TOY, Child, Project, free_port, until

from .inner import HTTP, MODES, OVERRIDE, Inner, accepts, messages, results


@MODES
def test_attached_tests_use_the_daemons_of_a_serve_and_leave_them_alone(
    inner: Inner, project: Project, mode: tuple[str, ...]
) -> None:
    inner.configure(api=inner.toy(), changed=inner.toy(), down=inner.toy(exports={"DOWN": "http://${host}:${port}"}))
    project.serve()
    before = {name: project.reaches(name, "ready").pid for name in ("api", "changed", "down")}
    project.client.order("down", "stop", wait_s=PATIENCE_S)
    inner.write("conftest.py", OVERRIDE.format(colour="'blue'").replace("api", "changed"))
    inner.write(
        "test_attached.py",
        """
        import pytest
        from pytest_neo_daemons import FaultRefused

        @pytest.mark.parametrize("number", range(2))
        def test_same(api, neo_daemons, number):
            assert api.pid == PID and neo_daemons["api"].state == "ready"

        @pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
        def test_refused(api, fault):
            with pytest.raises(FaultRefused, match=f"cannot {fault} api: it belongs to an attached supervisor"):
                getattr(api, fault)()

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api): pass

        def test_changed(changed): pass

        def test_down(down): pass
        """.replace("PID", str(before["api"])),
    )
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
def test_the_serve_to_attach_to_is_looked_for_where_the_project_is(
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


def test_once_the_serve_is_gone_nobody_waits_for_it(inner: Inner, project: Project) -> None:
    inner.configure(api=inner.toy())
    serve = project.serve()
    inner.write(
        "test_gone.py",
        f"""
        import os, signal, time
        import pytest
        from pytest_neo_daemons import Unavailable

        def test_gone(api):
            os.kill({serve.pid}, signal.SIGTERM)
            with pytest.raises(Unavailable, match="supervisor"):
                while time.sleep(0.01) is None:
                    api.pid

        def test_after(api):
            with pytest.raises(Unavailable, match="supervisor"):
                api.pid
        """,
    )
    began = time.monotonic()
    outcome = inner.run("--neo-daemons-attach")
    assert time.monotonic() - began < RECOVERY_S, outcome.text
    assert results(outcome) == {"test_gone": "passed", "test_after": "error"}, outcome.text


def test_a_daemon_given_by_its_url_is_used_and_never_signalled(inner: Inner) -> None:
    port, dead = free_port(), free_port()
    inner.configure(own=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.write(
        "test_url.py",
        f"""
        import pytest
        from helpers import get
        from pytest_neo_daemons import FaultRefused

        def test_used(api, neo_daemons):
            assert (api.pid, api.external, api.state, api.data_dir) == (None, True, "external", None)
            assert (api.url, api.host, api.port) == ("http://127.0.0.1:{port}", "127.0.0.1", {port})
            assert get(api.url) == 200 and set(neo_daemons) == {{"own", "api", "dead"}}

        @pytest.mark.parametrize("fault", ["kill", "pause", "stop", "restart"])
        def test_refused(api, fault):
            with pytest.raises(FaultRefused, match=f"cannot {{fault}} api: it is external"):
                getattr(api, fault)()

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api): pass

        def test_dead(dead): pass

        def test_own(own):
            assert get(own.url) == 200
        """,
    )
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
def test_the_exports_of_an_external_daemon_lead_where_its_url_leads(
    name: str, url: str, exports: dict[str, str]
) -> None:
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
