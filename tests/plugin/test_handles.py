"""The handles of daemons, and the environment that goes with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_neo_daemons import Daemon

from .inner import HTTP, PARALLEL, Inner, results


def test_a_handle_reports_on_its_daemon_and_controls_it(inner: Inner) -> None:
    inner.configure(
        api=inner.toy(
            "write=hello there",
            data_dir=str(inner.root / "precious"),
            exports={"API_URL": "http://${host}:${port}", "API_DATA": "${data_dir}"},
        )
    )
    inner.write("helpers.py", HTTP)
    inner.copy("handle.py", "test_handle.py")
    outcome = inner.run()
    assert outcome.counts() == {"failed": 1, "passed": 10}, outcome.text
    assert results(outcome)["test_leaves_it_stopped_and_fails"] == "failed"
    assert not (inner.root / "precious").exists()


def test_a_daemon_may_be_killed_again_and_again(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("helpers.py", HTTP)
    inner.copy("kills.py", "test_kills.py")
    assert inner.run().counts() == {"passed": 5}, inner.output()
    assert inner.starts() == 5


def test_exported_variables_are_set_only_while_tests_run(inner: Inner) -> None:
    inner.configure(api=inner.toy(exports={"API_URL": "http://${host}:${port}", "API_PORT": "${port}"}))
    inner.env["API_URL"] = "mine"
    inner.write(
        "conftest.py",
        """
        import os, pathlib

        def pytest_unconfigure():
            pathlib.Path("after").write_text(f"{os.environ.get('API_URL')} {os.environ.get('API_PORT')}")
        """,
    )
    inner.write(
        "test_env.py",
        """
        import os, pytest

        def test_shared(api):
            assert (os.environ["API_URL"], os.environ["API_PORT"]) == (api.url, str(api.port))

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api, neo_daemons):
            assert os.environ["API_URL"] != api.url
            assert os.environ["API_URL"] == neo_daemons["api"].url

        def test_again(api):
            assert (os.environ["API_URL"], os.environ["API_PORT"]) == (api.url, str(api.port))
        """,
    )
    outcome = inner.run("-o", "neo_daemons_export_env=true")
    assert (inner.root / "after").read_text() == "mine None"
    assert outcome.counts() == {"passed": 3}, outcome.text


def test_exported_variables_follow_a_daemon_to_another_port(inner: Inner) -> None:
    inner.configure(api=inner.toy(exports={"API_PORT": "${port}"}))
    inner.copy("exports.py", "test_env.py")
    outcome = inner.run("-o", "neo_daemons_export_env=true")
    assert outcome.counts() == {"passed": 2}, outcome.text


@pytest.mark.parametrize(
    ("url", "port"), [("http://host", 80), ("https://host/v1", 443), ("http://host:8", 8), (None, None)]
)
def test_a_url_without_a_port_means_the_default_port_of_its_scheme(url: str | None, port: int | None) -> None:
    session: Any = SimpleNamespace(need=lambda name, wait_s: SimpleNamespace(url=url, ports={}, ready=True))
    handle = Daemon(session, "api", lambda: None)
    handle.wait_ready()
    if port is None:
        with pytest.raises(LookupError, match="api has no port"):
            _ = handle.port
    else:
        assert handle.port == port


def test_errors_of_a_handle_show_the_line_of_the_test_and_none_of_ours(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_wrong.py",
        """
        def test_unknown(neo_daemons):
            neo_daemons["nope"]

        def test_refused(api):
            api.kill()

        def test_late(api):
            raise TimeoutError("the test's own")
        """,
    )
    outcome = inner.run(*PARALLEL)
    assert outcome.counts() == {"failed": 3}, outcome.text
    assert "UnknownDaemon: unknown daemon 'nope'; configured daemons: api" in outcome.text
    assert "FaultRefused: cannot kill api: " in outcome.text
    assert "the test's own" in outcome.text
    assert "pytest_neo_daemons/" not in outcome.text
