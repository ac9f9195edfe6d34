"""Tests are kept away from production, and from nothing else. tests/real/test_fence.py has the real chroma."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from neo_daemons import registry
from neo_daemons.registry import Entry, Registered, Registration
from neo_daemons.unpatched import Unpatched
from pytest_neo_daemons.fence import embedded
from pytest_neo_daemons.fence.equipment import Equipment
from pytest_neo_daemons.fence.known import Known
from pytest_neo_daemons.fence.sampler import Sampler
from pytest_neo_daemons.fence.wall import Owner, Plan, Port, Wall
from tests.harness import Project, free_port, toy, until

from .inner import MODES, PARALLEL, Inner, messages, results

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
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

    def entry(self) -> str:
        """The entry of the supervisor, as JSON."""
        (path,) = self.registry.glob("*.json")
        return path.read_text()


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


@pytest.mark.oldest
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


@pytest.mark.long
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


@pytest.mark.long
def test_production_is_fenced_without_its_supervisor_as_long_as_it_runs(production: Production, behind: Inner) -> None:
    production.begin()
    production.project.kill_supervisor()
    outcome = behind.run()
    assert results(outcome) == {"test_get": "failed"}, outcome.text
    assert "ProductionFenceError" in messages(outcome)["test_get"]
    production.project.run("reap")
    assert "ProductionFenceError" not in behind.run().text


@pytest.mark.long
def test_without_the_flag_the_setting_raises_the_fence(production: Production, behind: Inner) -> None:
    production.begin()
    assert results(behind.run(on=False)) == {"test_get": "passed"}, behind.output()
    outcome = behind.run("-o", "neo_daemons_fence=true", on=False)
    assert results(outcome) == {"test_get": "failed"}, outcome.text
    assert "Use the fixture api instead, with pytest --neo-daemons." in outcome.text
    assert results(behind.run("-o", "neo_daemons_fence=false")) == {"test_get": "passed"}, behind.output()


@pytest.mark.long
def test_a_daemon_of_the_run_is_not_fenced_although_it_has_the_port_of_production(
    production: Production, behind: Inner
) -> None:
    production.project.configure(api=production.project_toy(restart={"base_s": 60.0, "limit": 100}))
    production.begin()
    behind.write("test_get.py", "from helpers import get\ndef test_web(web): get(web.port)\n")
    assert results(behind.run()) == {"test_web": "passed"}, behind.output()


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
    behind.without = tuple(name for name in behind.without if name != "fakefs")
    production.begin()
    behind.write("test_get.py", "from helpers import get\nimport os\ndef test_get(fs): get(os.environ['PORT'])\n")
    assert results(behind.run()) == {"test_get": "failed"}, behind.output()


CHILD = """
    import os, subprocess, sys

    ASK = "import urllib.request as r; r.urlopen('http://127.0.0.1:' + __import__('os').environ['PORT'], timeout=20)"

    def ask():
        return subprocess.run([sys.executable, "-c", ASK], capture_output=True).returncode
"""
"""A child that asks production; `ask` returns its exit code."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("stated", "mode"),
    [
        pytest.param("option", (), id="option-alone"),
        pytest.param("ini", PARALLEL, id="ini-n2"),
        pytest.param("configuration", PARALLEL, id="configuration-n2"),
        pytest.param("option", PARALLEL, id="option-n2", marks=pytest.mark.matrix),
        pytest.param("ini", (), id="ini-alone", marks=pytest.mark.matrix),
        pytest.param("configuration", (), id="configuration-alone", marks=pytest.mark.matrix),
    ],
)
def test_an_external_daemon_of_the_run_is_let_through(
    production: Production, behind: Inner, stated: str, mode: tuple[str, ...]
) -> None:
    production.begin()
    url = f"http://127.0.0.1:{production.port}"
    if stated == "configuration":
        behind.configure(api={"external": url}, web=behind.toy())
    elif stated == "ini":
        behind.write("pytest.ini", f"[pytest]\nneo_daemons_url = api={url}\n")
    else:
        mode = (*mode, f"--neo-daemons-url=api={url}")
    behind.write("child.py", CHILD)
    behind.write(
        "test_get.py",
        """
        from child import ask
        from helpers import get

        def test_get(api): get(api.port)
        def test_child(api): assert ask() == 0
        """,
    )
    outcome = behind.run(*mode)
    assert results(outcome) == {"test_get": "passed", "test_child": "passed"}, outcome.text


@pytest.mark.long
def test_an_external_daemon_elsewhere_lets_nothing_through_here(production: Production, behind: Inner) -> None:
    production.begin()
    outcome = behind.run(f"--neo-daemons-url=api=http://192.0.2.1:{production.port}")
    assert results(outcome) == {"test_get": "failed"}, outcome.text


@pytest.mark.long
def test_a_supervisor_of_the_tests_is_not_production(production: Production, behind: Inner) -> None:
    own = Production(behind.root / "own")
    behind.env |= {"PORT": str(own.port)}
    behind.write(
        "test_get.py",
        """
        import os, pytest, shutil, subprocess, sys
        from helpers import get

        @pytest.fixture(scope="session")
        def served():
            command = [sys.executable, "-m", "neo_daemons"]
            subprocess.run([*command, "up", "--wait", "60"], cwd="own", check=True)
            yield os.environ["PORT"]
            subprocess.run([*command, "down"], cwd="own", check=True)

        def test_first(served): get(served)
        def test_second(served): get(served)
        def test_files(served): shutil.rmtree("own/data")
        """,
    )
    outcome = behind.run()
    assert set(results(outcome).values()) == {"passed"}, outcome.text


def test_the_thread_uses_no_more_than_its_share_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    clock = itertools.count(step=0.005)  # as long as each look takes

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            if len(waited) == 3:
                self.set()
            return self.is_set()

    sampler = Sampler(lambda: Plan({}, (), {}), lambda pid, command, number: None)
    monkeypatch.setattr(sampler, "_closing", Closing())
    monkeypatch.setattr(sampler, "_look", lambda: True)
    monkeypatch.setattr(Unpatched, "thread_time", lambda: next(clock))
    sampler._wake.set()
    sampler._watch()
    assert waited == pytest.approx([0.05] * 3)


@pytest.mark.not_macos("no thread looks at connections there")
@pytest.mark.parametrize("replaced", ["fs", "monkeypatch"])
def test_the_thread_goes_on_in_tests_that_replace_the_file_system(
    production: Production, behind: Inner, replaced: str
) -> None:
    pytest.importorskip("pyfakefs")
    behind.without = tuple(name for name in behind.without if name != "fakefs")
    production.begin()
    behind.copy("children.py", "children.py")
    behind.write(
        "test_get.py",
        f"""
        import os, threading
        from children import connect, wait_until_seen

        def broken(*arguments, **options):
            raise PermissionError(13, "no")

        def test_child({replaced}, request):
            child = connect({production.port})
            if "{replaced}" == "monkeypatch":
                for name in ("listdir", "open", "readlink", "waitid", "read"):
                    monkeypatch.setattr(os, name, broken)
            wait_until_seen(child, request)

        def test_after():
            assert [thread for thread in threading.enumerate() if thread.name == "neo-daemons fence"]
        """,
    )
    outcome = behind.run("-W", "error")
    assert results(outcome) == {"test_child": "failed", "test_after": "passed"}, outcome.text
    assert "It could not be refused" in messages(outcome)["test_child"], outcome.text


@pytest.mark.long
def test_what_a_worker_has_seen_is_told_once(production: Production, behind: Inner) -> None:
    production.begin()
    behind.copy("children.py", "children.py")
    behind.write(
        "test_get.py",
        f"""
        from children import connect, wait_until_seen

        def test_child(request):
            wait_until_seen(connect({production.port}), request)
        """,
    )
    outcome = behind.run("-n", "1")
    assert results(outcome) == {"test_child": "failed"}, outcome.text
    assert "outside of any test" not in outcome.text


FORKS = """
    import os, pickle, pytest
    from _pytest.reports import TestReport
    from _pytest.runner import runtestprotocol

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(item):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            reports = runtestprotocol(item, log=False)
            with os.fdopen(writing, "wb") as file:
                pickle.dump([report._to_json() for report in reports], file)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            reports = pickle.load(file)
        os.waitpid(pid, 0)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=TestReport._from_json(report))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
"""
"""Runs each test in a process of its own, as pytest-forked does."""


def test_a_test_that_runs_in_a_fork_fails_alone(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write("conftest.py", FORKS)
    behind.write("child.py", CHILD)
    behind.write(
        "test_get.py",
        """
        import os
        from child import ask
        from helpers import get

        def test_get(): get(os.environ["PORT"])
        def test_between(): pass
        def test_child(): ask()
        def test_after(): pass
        """,
    )
    outcome = behind.run("-o", "neo_daemons_fence=true", on=False)
    wanted = {"test_get": "failed", "test_between": "passed", "test_child": "failed", "test_after": "passed"}
    assert results(outcome) == wanted, outcome.text
    summary = outcome.text.rpartition(" neo-daemons fence ")[2]
    assert summary.count("It was refused, and nothing was done") == 2, outcome.text


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_processes_of_multiprocessing_fail_the_test_that_starts_them(
    production: Production, behind: Inner, method: str
) -> None:
    production.begin()
    behind.write(
        "work.py",
        """
        import os
        from helpers import get

        def work():
            try: get(os.environ["PORT"])
            except Exception: pass
        """,
    )
    behind.write(
        "test_get.py",
        f"""
        import multiprocessing, work

        def test_work():
            process = multiprocessing.get_context("{method}").Process(target=work.work)
            process.start()
            process.join()
            assert process.exitcode == 0

        def test_after(): pass
        """,
    )
    assert results(behind.run()) == {"test_work": "failed", "test_after": "passed"}, behind.output()


@pytest.mark.long
def test_the_fence_falls_with_a_run_that_never_began(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write("conftest.py", "raise ImportError('broken')\n")
    behind.write(
        "embed.py",
        """
        import os, pytest
        from helpers import get

        assert pytest.main(["-q", "-o", "neo_daemons_fence=true", "-p", "no:cacheprovider", "."]) == 4
        print("answered", get(os.environ["PORT"]).status)
        """,
    )
    done = subprocess.run(
        [sys.executable, "embed.py"], cwd=behind.root, env=behind.env, text=True, capture_output=True, check=False
    )
    assert "answered 200" in done.stdout, done.stdout + done.stderr


def test_modules_in_a_data_directory_can_be_imported(production: Production, behind: Inner) -> None:
    behind.write("backend/models.py", "x = 1\n")
    production.project.configure(api=production.project_toy() | {"data_dir": str(behind.root / "backend")})
    production.begin()
    del behind.env["PYTHONDONTWRITEBYTECODE"]
    behind.write(
        "test_get.py",
        """
        import sys
        sys.path.insert(0, "backend")

        def test_import(): import models
        def test_write(): open("backend/mine", "w")
        """,
    )
    outcome = behind.run()
    assert results(outcome) == {"test_import": "passed", "test_write": "failed"}, outcome.text
    assert list((behind.root / "backend" / "__pycache__").glob("models*.pyc"))


@pytest.mark.long
@MODES
def test_a_data_directory_with_tests_is_not_fenced(
    production: Production, behind: Inner, mode: tuple[str, ...]
) -> None:
    behind.write("backend/tests/test_deep.py", "def test_write(): open('backend/mine', 'w').close()\n")
    production.project.configure(api=production.project_toy() | {"data_dir": str(behind.root / "backend")})
    production.begin()
    outcome = behind.run("backend", *mode)
    assert results(outcome) == {"test_write": "passed"}, outcome.text
    assert f"{behind.root / 'backend'} is not fenced, because it contains the tests" in outcome.text


NODE = """
    const link = require("net").connect({port}, "127.0.0.1");
    link.on("connect", () => process.exit(0)).on("error", () => process.exit(1));
"""


@pytest.mark.long
def test_a_child_reaches_what_production_has_left(production: Production, behind: Inner) -> None:
    """The test has begun before production stopped, so that its processes start with an older plan."""
    production.begin()
    behind.write("child.py", CHILD)
    behind.write(
        "test_get.py",
        f"""
        import http.server, os, pathlib, shutil, subprocess, threading
        from child import ask

        def test_stopped():
            pathlib.Path("begun").touch()
            os.read(os.open("go", os.O_RDONLY), 1)  # until it is opened for writing, and closed
            server = http.server.HTTPServer(("127.0.0.1", {production.port}), http.server.SimpleHTTPRequestHandler)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                assert ask() == 0
                if shutil.which("node"):
                    subprocess.run(["node", "-e", {NODE.format(port=production.port)!r}], check=True)
            finally:
                server.shutdown()
                thread.join()
                server.server_close()
        """,
    )
    os.mkfifo(behind.root / "go")
    process = behind.popen()
    behind.reaches("begun")
    production.project.client.order("api", "stop", wait_s=20)
    until(lambda: '"ports"' not in production.entry(), "no port in the entry")
    os.close(os.open(behind.root / "go", os.O_WRONLY))
    outcome = behind.end(process)
    assert results(outcome) == {"test_stopped": "passed"}, outcome.text


@pytest.mark.long
def test_what_a_process_of_a_collection_is_refused_fails_the_collection(production: Production, behind: Inner) -> None:
    production.begin()
    behind.write("child.py", CHILD)
    behind.write("test_get.py", "from child import ask\nask()\ndef test_innocent(): pass\n")
    outcome = behind.run()
    assert outcome.code == pytest.ExitCode.INTERRUPTED, outcome.text
    assert "test_innocent" not in results(outcome)


def test_links_into_a_data_directory_are_refused(production: Production, behind: Inner) -> None:
    production.begin()
    data = production.project.root / "data"
    behind.write(
        "test_get.py",
        f"""
        import os

        def test_symlink(): os.symlink("x", "{data}/link")
        def test_link(tmp_path):
            (tmp_path / "x").touch()
            os.link(tmp_path / "x", "{data}/link")
        def test_link_elsewhere(tmp_path): os.symlink("{data}", tmp_path / "link")
        """,
    )
    outcome = behind.run()
    wanted = {"test_symlink": "failed", "test_link": "failed", "test_link_elsewhere": "passed"}
    assert results(outcome) == wanted, outcome.text
    assert not list(data.glob("link"))


NODE_CASES = {
    "fs.closeSync(fs.openSync(`${data}/kept`, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW))": True,
    "fs.mkdirSync(data, { recursive: true })": True,
    "fs.mkdirSync(`${data}/new`)": False,
    "fs.symlinkSync('x', `${data}/link`)": False,
    "fs.chmodSync(`${data}/kept`, 0o777)": False,
    "fs.cpSync(__filename, `${data}/copy`)": False,
    "fs.rmSync(require('path').dirname(data), { recursive: true })": False,
}
"""What a program of Node.js does → whether it may."""


@pytest.mark.long
@needs_node
def test_node_is_refused_changes_alone(production: Production, behind: Inner) -> None:
    production.begin()
    data = production.project.root / "data"
    (data / "kept").touch(0o600)
    before = sorted(data.iterdir())
    for number, line in enumerate(NODE_CASES):
        behind.write(f"case{number}.js", f"const fs = require('fs'), data = '{data}';\n{line};\n")
    behind.write(
        "test_get.py",
        f"""
        import pytest, subprocess

        @pytest.mark.parametrize("number", range({len(NODE_CASES)}))
        def test_case(number):
            subprocess.run(["node", f"case{{number}}.js"], stderr=subprocess.DEVNULL)
        """,
    )
    found = results(behind.run())
    wanted = {f"test_case[{n}]": "passed" if may else "failed" for n, may in enumerate(NODE_CASES.values())}
    assert found == wanted, behind.output()
    assert sorted(data.iterdir()) == before


@pytest.mark.long
@needs_node
def test_node_reaches_another_address_with_the_port_of_production(production: Production, behind: Inner) -> None:
    production.begin()
    with socket.create_server(("::1", production.port), family=socket.AF_INET6):
        script = NODE.format(port=production.port).replace("127.0.0.1", "::1")
        behind.write(
            "test_get.py",
            f"import subprocess\ndef test_node(): subprocess.run(['node', '-e', {script!r}], check=True)\n",
        )
        assert results(behind.run()) == {"test_node": "passed"}, behind.output()


def test_a_process_whose_run_is_over_is_still_refused(tmp_path: Path) -> None:
    equipment = Equipment()
    owner = Owner("api of production", "Use the fixture.", str(tmp_path), "api")
    port = free_port()
    equipment.equip(Plan({port: (Port("127.0.0.1", owner),)}, (), {}))
    script = f"""if 1:
        import os, shutil, socket
        shutil.rmtree(os.environ["NEO_DAEMONS_FENCE"])
        socket.create_connection(("127.0.0.1", {port}))
        """
    try:
        done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=False)
    finally:
        equipment.close()
    assert "ProductionFenceError" in done.stderr


def test_a_directory_of_a_run_in_another_container_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, other = Equipment(), Equipment()
    one._pid = 2**31 - 1  # as its pid looks in another pid namespace
    try:
        one.equip(Plan({}, (), {}))
        other.equip(Plan({}, (), {}))
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        other.close()
        one._pid = os.getpid()
        one.close()
    assert list(tmp_path.iterdir()) == []


def test_what_processes_are_refused_is_told_although_a_test_has_closed_our_descriptor(tmp_path: Path) -> None:
    equipment, other = Equipment(), tmp_path / "other"
    other.touch()
    try:
        equipment.equip(Plan({}, (), {}))
        assert equipment.hits() == []
        equipment.add("one")
        assert equipment.hits() == ["one"]
        assert equipment.hits() == []
        os.close(equipment._descriptor)
        equipment.add("two")
        assert equipment.hits() == ["two"]
        number, taken = equipment._descriptor, os.open(other, os.O_RDONLY)
        os.truncate(other, len("one\ntwo\n"))  # as large as what was read
        os.dup2(taken, number)
        equipment.add("three")
        assert equipment.hits() == ["three"]
    finally:
        equipment.close()
    assert os.path.sameopenfile(number, taken), "it was the test's own"
    for descriptor in {number, taken}:
        os.close(descriptor)


@pytest.mark.not_macos("the emulation imports some of them itself")
def test_modules_that_python_children_import_are_few(tmp_path: Path) -> None:
    equipment = Equipment()
    equipment.equip(Plan({}, (), {}))
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import sys; print(*sys.modules)"], text=True, capture_output=True, check=True
        )
    finally:
        equipment.close()
    loaded = set(done.stdout.split())
    assert "_neo_daemons_fence_wall" in loaded
    assert loaded.isdisjoint({"json", "typing", "re", "socket", "importlib.util"})


def test_a_chromadb_without_the_bindings_of_today_can_be_imported() -> None:
    embedded._guard(ModuleType("chromadb_rust_bindings"), Wall(lambda text: None, lambda: ""))


def test_a_port_is_asked_of_all_supervisors_of_a_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemons that were adopted may be in an entry of the supervisor before, in another directory."""
    places = (tmp_path / "home", tmp_path / "fallback")
    registrations = []
    for place, name, number in zip(places, ("old", "new"), (1111, 8000), strict=True):
        monkeypatch.setenv("NEO_DAEMONS_REGISTRY", str(place))
        registrations.append(Registration())
        daemon = Registered(name=name, ports={"main": number})
        registrations[-1].write(Entry(state_dir="/x", pid=os.getpid(), daemons=(daemon,)))
    monkeypatch.setattr(registry, "directories", lambda: places)
    known = Known(Path("/tmp"), [], is_on=True)
    plan = known.plan()
    assert {number: known.still_has(number, ports[0].owner) for number, ports in plan.ports.items()} == {
        1111: True,
        8000: True,
    }
    for registration in registrations:
        registration.close()
