"""A supervisor that is started while pytest itself is still starting."""

from __future__ import annotations

import os
import signal

import pytest

from tests.harness import until

from .inner import Inner

pytestmark = pytest.mark.long

ONE = "def test_api(api): assert api.state == 'ready'\n"
WAITING = """
    import pathlib, time

    pathlib.Path("here").touch()
    time.sleep(300)
"""
KILLING = """
    import os, pathlib, signal

    here = os.fsencode(pathlib.Path(os.environ["TMPDIR"]))
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = process.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if b"neo_daemons.ephemeral" in words and here in words:
            os.kill(int(process.name), signal.SIGKILL)
            pathlib.Path("killed").touch()
"""
FORKING = """
    import os, pathlib, time

    child = os.fork()
    if not child:
        os.setsid()
        time.sleep(300)
    pathlib.Path("child").write_text(str(child))
    pathlib.Path("here").touch()
    time.sleep(300)
"""


@pytest.fixture
def project(inner: Inner) -> Inner:
    inner.configure(api=inner.toy())
    inner.write("test_api.py", ONE)
    return inner


@pytest.mark.parametrize("how", ["flag", "addopts", "setting", "PYTEST_ADDOPTS"])
def test_it_runs_before_pytest_knows_the_tests_however_the_plugin_is_enabled(project: Inner, how: str) -> None:
    project.write("conftest.py", WAITING)
    settings = {"addopts": "addopts = --neo-daemons", "setting": "neo_daemons = true"}
    project.write("pytest.ini", f"[pytest]\n{settings.get(how, '')}\n")
    if how == "PYTEST_ADDOPTS":
        project.env["PYTEST_ADDOPTS"] = "--neo-daemons"
    run = project.popen(on=how == "flag")
    project.reaches("here")
    until(project.supervisors, "the supervisor")
    os.kill(run.pid, signal.SIGKILL)
    project.wait_until_nothing_is_left()


@pytest.mark.parametrize(
    "argument", ["--help", "--collect-only", "--fixtures", "--neo-daemons-attach", "-pno:neo_daemons"]
)
def test_it_is_not_started_for_runs_that_need_none(project: Inner, argument: str) -> None:
    project.write("conftest.py", WAITING)
    run = project.popen(argument, on=argument != "-pno:neo_daemons")
    project.reaches("here")
    assert project.supervisors() == []
    run.kill()


def test_a_run_does_without_one_that_was_killed(project: Inner) -> None:
    project.write("conftest.py", KILLING)
    outcome = project.run()
    assert outcome.counts() == {"passed": 1}, outcome.text
    assert (project.root / "killed").exists()
    assert project.left() == []


def test_a_forked_child_of_the_run_does_not_keep_it(project: Inner) -> None:
    project.write("conftest.py", FORKING)
    run = project.popen()
    project.reaches("here")
    os.kill(run.pid, signal.SIGKILL)
    project.wait_until_nothing_is_left()
    os.killpg(int((project.root / "child").read_text()), signal.SIGKILL)


def test_the_daemons_have_the_environment_of_the_configured_run(project: Inner) -> None:
    project.write("conftest.py", 'import os\nos.environ["COLOUR"] = "red"\nos.environ.pop("GONE")\n')
    project.env["GONE"] = "1"
    project.write(
        "test_api.py",
        """
        import pathlib

        def test_api(api):
            variables = pathlib.Path(f"/proc/{api.pid}/environ").read_bytes().split(bytes(1))
            assert b"COLOUR=red" in variables
            assert b"GONE=1" not in variables
        """,
    )
    outcome = project.run()
    assert outcome.counts() == {"passed": 1}, outcome.text


def test_pytest_that_goes_on_in_a_fork_starts_another_one(project: Inner) -> None:
    """It failed with an internal error: it wrote to a closed pipe."""
    project.write(
        "conftest.py",
        """
        import os

        child = os.fork()
        if child:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    )
    assert project.run().counts() == {"passed": 1}, project.output()
