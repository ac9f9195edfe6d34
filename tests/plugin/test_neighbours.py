"""Beside other plugins, and without the usual ones."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from .inner import Inner

SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
"""pytest-asyncio warns without it."""


@pytest.mark.oldest
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param((), id="alone"),
        pytest.param(("-n", "2"), id="n2", marks=pytest.mark.long),
        pytest.param(("-p", "no:xdist"), id="no xdist", marks=pytest.mark.long),
    ],
)
def test_the_plugin_works_beside_pytest_asyncio_and_pytest_timeout_with_warnings_as_errors(
    inner: Inner, mode: tuple[str, ...]
) -> None:
    inner.without = ("cacheprovider",)
    inner.configure(api=inner.toy())
    inner.copy("asynchronous.py", "test_async.py")
    outcome = inner.run(*mode, "--strict-markers", "-W", "error", *SCOPE)
    assert outcome.counts() == {"passed": 3}, outcome.text


@pytest.mark.long
def test_a_timeout_while_a_daemon_starts_is_an_error_in_that_test_alone(inner: Inner) -> None:
    inner.configure(slow=inner.toy(ready={"type": "log", "pattern": "never"}, start_grace_s=600.0), api=inner.toy())
    inner.write(
        "test_slow.py",
        """
        import pytest

        @pytest.mark.timeout(1, method="signal")
        def test_slow(slow):
            raise AssertionError

        def test_api(api):
            assert api.state == "ready"
        """,
    )
    outcome = inner.run()
    assert outcome.results == {"test_slow::test_slow": "error", "test_slow::test_api": "passed"}, outcome.text
    assert "Timeout" in outcome.text


@pytest.mark.long
@pytest.mark.parametrize("elsewhere", ["another file system", "another pid namespace"])
def test_workers_that_cannot_reach_the_session_start_their_own_and_say_so(inner: Inner, elsewhere: str) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_api.py",
        """
        import pytest, urllib.request

        @pytest.mark.parametrize("number", range(6))
        def test_api(api, number):
            assert urllib.request.urlopen(api.url).status == 200
        """,
    )
    # As in a container: the directory of sessions is another one there, or it is shared and the processes are not.
    apart = "unshare --user --map-root-user --mount"
    if elsewhere == "another file system":
        command = f'{apart} sh -c \'mount -t tmpfs none "{inner.tmp}" && exec "{sys.executable}" "$@"\' worker'
    else:
        command = f'{apart} --pid --fork --kill-child --mount-proc "{sys.executable}"'
    worker = inner.root / "worker"
    worker.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    worker.chmod(0o755)
    outcome = inner.run("--tx", "popen", "--tx", f"popen//python={worker}", "--dist", "load")
    assert outcome.counts() == {"passed": 6}, outcome.text
    assert "worker gw1 cannot reach the controller's daemons and started its own" in outcome.text
    assert "worker gw0" not in outcome.text
    assert inner.starts() == 2


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    ["-p no:xdist --strict-markers -W error -q", "-p no:terminal", "-p no:terminal -n 2"],
)
def test_the_plugin_works_without_other_plugins(inner: Inner, arguments: str) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_on.py",
        """
        import pytest

        def test_api(api):
            assert api.state == "ready"

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api):
            api.kill()
        """,
    )
    outcome = inner.run(*arguments.split())
    assert outcome.code == 0, outcome.text
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert inner.left() == []


def test_the_plugin_imports_no_private_module_of_pytest() -> None:
    import pytest_neo_daemons

    private = []
    for path in Path(pytest_neo_daemons.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [str(node.value)] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            private += [f"{path.name}: {name}" for name in names if name.partition(".")[0] == "_pytest"]
    assert private == []


def test_pytest_rewrites_none_of_our_modules_and_warns_of_none(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        """
        import json, pathlib, pytest, sys

        pytest.register_assert_rewrite("neo_daemons", "pytest_neo_daemons")

        def pytest_unconfigure():
            ours = [m for m in sys.modules if m.partition(".")[0] in ("neo_daemons", "pytest_neo_daemons")]
            rewritten = [m for m in ours if type(sys.modules[m].__spec__.loader).__module__.startswith("_pytest")]
            pathlib.Path("seen").write_text(json.dumps([len(ours), rewritten]))
        """,
    )
    inner.write("test_api.py", "def test_api(api):\n    assert api.pid == 0\n")
    outcome = inner.run("-W", "error")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "where" in outcome.text  # the project's own assertions are rewritten
    assert "PytestAssertRewriteWarning" not in outcome.text
    count, rewritten = json.loads((inner.root / "seen").read_text())
    assert count > 20
    assert rewritten == ["pytest_neo_daemons"], "only the package, which finds the others"


def test_the_threads_of_the_plugin_leave_signals_to_the_tests(inner: Inner) -> None:
    """Else Ctrl-C during a long sleep may be lost while a supervisor is replaced."""
    inner.configure(api=inner.toy())
    inner.write(
        "test_it.py",
        """
        import pathlib, threading

        def takes_ctrl_c(thread):
            status = pathlib.Path(f"/proc/self/task/{thread.native_id}/status").read_text()
            return not int(status.split("SigBlk:")[1].split()[0], 16) & 2

        def test_api(api):
            ours = [thread for thread in threading.enumerate() if thread.name.startswith("neo-daemons")]
            assert ours
            assert not [thread.name for thread in ours if takes_ctrl_c(thread)]
            assert takes_ctrl_c(threading.main_thread())
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 1}, outcome.text
