"""Tests are kept away from production, and from nothing else. tests/real/test_fence.py has the real chroma."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Project, free_port, toy, until

from .inner import MODES, Inner, messages, results

GET = """
    import urllib.request

    def get(port):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20)
"""
INSTALLED = """
    import sys
    from pytest_neo_daemons.fence import wall

    def test_hook():
        assert bool(wall._installed) == {installed}
"""


class Production:
    """A `serve` with one daemon, `api`."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.project = Project(root)
        self.port = free_port()
        self.project.configure(api=self.project_toy())

    def project_toy(self, **settings: Any) -> dict[str, Any]:
        return toy(port=self.port, data_dir="data", **settings)

    def begin(self) -> None:
        self.project.serve()
        self.project.reaches("api", "ready")
        until(lambda: [*self.registry.glob("*.json")], "the entry")

    @property
    def registry(self) -> Path:
        return self.project.root / "registry"


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Production]:
    production = Production(tmp_path / "production")
    yield production
    assert not production.project.close()


@pytest.fixture
def behind(production: Production, inner: Inner) -> Inner:
    """A repository that reads the registry of `production`."""
    inner.configure(web=inner.toy())
    inner.env |= {"NEO_DAEMONS_REGISTRY": str(production.registry), "PORT": str(production.port)}
    inner.write("helpers.py", GET)
    inner.write("test_get.py", "from helpers import get\nimport os\ndef test_get(): get(os.environ['PORT'])\n")
    return inner


@MODES
def test_a_connection_to_production_is_refused(production: Production, behind: Inner, mode: tuple[str, ...]) -> None:
    production.begin()
    outcome = behind.run(*mode)
    assert outcome.code == 1
    assert results(outcome) == {"test_get": "failed"}, outcome.text
    said = messages(outcome)["test_get"]
    assert "ProductionFenceError" in said
    assert (
        f"test_get.py::test_get connects to 127.0.0.1:{production.port}, which is api of the production supervisor in"
        in said
    )
    assert "Use the fixture api instead. To let tests use it" in said
    assert outcome.text.count("It was refused, and nothing was done") >= 2  # the report, and the summary


def test_nothing_is_installed_where_nothing_is_registered(behind: Inner) -> None:
    behind.write("test_get.py", INSTALLED.format(installed=False))
    assert results(behind.run()) == {"test_hook": "passed"}, behind.output()


def test_a_supervisor_that_is_started_during_the_run_is_fenced_from_the_next_test_on(
    production: Production, behind: Inner
) -> None:
    behind.write(
        "test_get.py",
        """
        import os, pathlib, pytest
        from helpers import get

        def test_before():
            pathlib.Path("begun").touch()
            os.read(os.open("go", os.O_RDONLY), 1)  # until it is opened for writing, and closed

        def test_after(): get(os.environ["PORT"])
        """,
    )
    os.mkfifo(behind.root / "go")
    process = behind.popen()
    behind.reaches("begun")
    production.begin()
    os.close(os.open(behind.root / "go", os.O_WRONLY))
    outcome = behind.end(process)
    assert results(outcome) == {"test_before": "passed", "test_after": "failed"}, outcome.text


def test_production_is_fenced_without_its_supervisor_as_long_as_it_runs(production: Production, behind: Inner) -> None:
    production.begin()
    production.project.kill_supervisor()
    outcome = behind.run()
    assert results(outcome) == {"test_get": "failed"}, outcome.text
    assert "ProductionFenceError" in messages(outcome)["test_get"]
    production.project.run("reap")
    assert "ProductionFenceError" not in behind.run().text


def test_without_the_flag_the_setting_raises_the_fence(production: Production, behind: Inner) -> None:
    production.begin()
    assert results(behind.run(on=False)) == {"test_get": "passed"}, behind.output()
    outcome = behind.run("-o", "neo_daemons_fence=true", on=False)
    assert results(outcome) == {"test_get": "failed"}, outcome.text
    assert "Use the fixture api instead, with pytest --neo-daemons." in outcome.text
    assert results(behind.run("-o", "neo_daemons_fence=false")) == {"test_get": "passed"}, behind.output()


def test_a_daemon_of_the_run_is_not_fenced_although_it_has_the_port_of_production(
    production: Production, behind: Inner
) -> None:
    production.project.configure(api=production.project_toy(restart={"base_s": 60.0, "limit": 100}))
    production.begin()
    behind.write("test_get.py", "from helpers import get\ndef test_web(web): get(web.port)\n")
    assert results(behind.run()) == {"test_web": "passed"}, behind.output()


@pytest.mark.parametrize("allowed", ["api", "directory", "relative"])
def test_what_the_setting_names_is_let_through(production: Production, behind: Inner, allowed: str) -> None:
    production.begin()
    state = production.project.state.path
    text = {"api": "api", "directory": str(state), "relative": "production/.neo-daemons"}[allowed]
    behind.write("pytest.ini", f"[pytest]\nneo_daemons_fence_allow = {text}\n")
    behind.write(
        "test_get.py",
        f"""
        from helpers import get

        def test_get(): get({production.port})
        def test_write(): open("{production.project.root}/data/mine", "w").close()
        """,
    )
    assert set(results(behind.run()).values()) == {"passed"}, behind.output()


def test_an_entry_of_the_setting_that_can_be_neither_is_refused(production: Production, behind: Inner) -> None:
    outcome = behind.run("-o", "neo_daemons_fence_allow=Api!")
    assert outcome.code == pytest.ExitCode.USAGE_ERROR
    assert "neo_daemons_fence_allow = Api!: expected the name of a daemon" in outcome.text


def test_the_control_socket_is_fenced(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write(
        "test_get.py",
        f"""
        import subprocess, sys

        STATE = "{production.project.state.path}"

        def test_client():
            from pathlib import Path
            from neo_daemons import Client
            from neo_daemons.state_dir import StateDir

            Client(StateDir(Path(STATE))).order("api", "stop")

        def test_command():
            subprocess.run([sys.executable, "-m", "neo_daemons", "down", "--state-dir", STATE])
        """,
    )
    outcome = behind.run()
    assert set(results(outcome).values()) == {"failed"}, outcome.text
    assert production.project.daemon("api").ready


def test_what_runs_before_the_first_test_is_fenced(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write("test_get.py", "from helpers import get\nimport os\nget(os.environ['PORT'])\ndef test_get(): pass\n")
    outcome = behind.run()
    assert "the collection of test_get.py connects to" in outcome.text
    assert outcome.code == pytest.ExitCode.INTERRUPTED
    behind.write(
        "test_get.py",
        "from helpers import get\nimport os\ntry: get(os.environ['PORT'])\nexcept Exception: pass\ndef test(): pass\n",
    )
    outcome = behind.run()
    assert "the collection of test_get.py connects to" in outcome.text
    assert outcome.code == pytest.ExitCode.INTERRUPTED


@MODES
def test_a_conftest_that_keeps_silent_fails_the_run(
    production: Production, behind: Inner, mode: tuple[str, ...]
) -> None:
    production.begin()
    behind.write(
        "conftest.py", "from helpers import get\nimport os\ntry: get(os.environ['PORT'])\nexcept Exception: pass\n"
    )
    behind.write("test_get.py", "def test_get(): pass\n")
    outcome = behind.run(*mode)
    assert results(outcome) == {"test_get": "passed"}, outcome.text
    assert outcome.code == 1, outcome.text
    assert "conftest.py, while pytest was starting, connects to" in outcome.text


def test_a_directory_that_contains_the_tests_is_not_fenced_and_the_summary_says_so(
    production: Production, behind: Inner
) -> None:
    production.project.configure(api=production.project_toy() | {"data_dir": str(behind.root)})
    production.begin()
    behind.write("test_get.py", "def test_write(): open('mine', 'w').close()\n")
    outcome = behind.run()
    assert results(outcome) == {"test_write": "passed"}, outcome.text
    assert f"{behind.root} is not fenced, because it contains the tests" in outcome.text


def test_the_processes_of_tests_keep_their_own_sitecustomize(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write("site/sitecustomize.py", "import builtins\nbuiltins.customized = True\n")
    behind.write(
        "test_get.py",
        """
        import os, pathlib, subprocess, sys

        def test_child(monkeypatch):
            own = pathlib.Path("site").resolve()
            monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(own)]))
            script = "import sys; assert customized; assert not any(p.endswith('fence/site') for p in sys.path)"
            subprocess.run([sys.executable, "-c", script], check=True)
        """,
    )
    assert results(behind.run()) == {"test_child": "passed"}, behind.output()


def test_servers_and_files_of_the_tests_are_not_fenced(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write(
        "test_get.py",
        """
        import http.server, shutil, sqlite3, threading
        from helpers import get

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
            def log_message(self, *args): pass

        def test_server():
            server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            get(server.server_port)
            server.shutdown()
            thread.join()
            server.server_close()

        def test_files(tmp_path):
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "b").write_text("c")
            sqlite3.connect(tmp_path / "x.db").execute("create table t (x)").connection.close()
            (tmp_path / "a").rename(tmp_path / "d")
            shutil.rmtree(tmp_path / "d")
        """,
    )
    assert set(results(behind.run()).values()) == {"passed"}, behind.output()


def test_a_run_within_a_test_lets_the_fence_of_the_outer_run_stand(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write(
        "test_get.py",
        """
        import os, pytest
        from helpers import get

        def test_nested(tmp_path):
            (tmp_path / "test_inner.py").write_text("def test_inner(): pass")
            options = ["-q", "-pno:cacheprovider", f"--rootdir={tmp_path}", "-o", "neo_daemons_fence=true"]
            assert pytest.main([*options, str(tmp_path)]) == 0

        def test_after(): get(os.environ["PORT"])
        """,
    )
    assert results(behind.run()) == {"test_nested": "passed", "test_after": "failed"}, behind.output()


def test_a_test_that_replaces_the_file_system_is_refused_too(production: Production, behind: Inner) -> None:
    pytest.importorskip("pyfakefs")
    production.begin()
    behind.write("test_get.py", "from helpers import get\nimport os\ndef test_get(fs): get(os.environ['PORT'])\n")
    assert results(behind.run()) == {"test_get": "failed"}, behind.output()
