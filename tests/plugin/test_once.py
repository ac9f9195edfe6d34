"""`neo_daemons.once`: once for all workers."""

from __future__ import annotations

import pytest

from tests.harness import Project, toy

from .inner import MODES, PARALLEL, Inner, lines, messages

pytestmark = pytest.mark.long

HEAD = """
    import os, pathlib, pytest

    HERE = pathlib.Path(__file__).parent

    def note(text="ran"):
        with open(HERE / "ran", "a") as file:
            print(text, os.getpid(), file=file)
"""


def ran(inner: Inner) -> int:
    return len(lines(inner.root / "ran"))


@pytest.fixture
def repository(inner: Inner) -> Inner:
    inner.configure(api=inner.toy())
    return inner


@MODES
def test_all_workers_get_what_one_of_them_returned(repository: Inner, mode: tuple[str, ...]) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    def make():
        note()
        return {"pid": os.getpid(), "bytes": b"\\0x", "list": (1, 2.5, None)}

    @pytest.mark.parametrize("number", range(6))
    def test_it(neo_daemons, number):
        made = neo_daemons.once("made", make)
        assert made == {"pid": int((HERE / "ran").read_text().split()[-1]), "bytes": b"\\0x", "list": [1, 2.5, None]}
        assert neo_daemons.once("typed", lambda: [1, 2], type=tuple[int, int]) == (1, 2)
    """,
    )
    for number in (1, 2):  # once in each run
        outcome = repository.run(*mode)
        assert outcome.counts() == {"passed": 6}, outcome.text
        assert ran(repository) == number


def test_others_wait_while_it_runs(repository: Inner) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    import time

    def others():
        lines = pathlib.Path("/proc/locks").read_text().splitlines()
        waiting = {line.split()[5] for line in lines if " -> FLOCK " in line}
        return {path.name for path in HERE.glob("arrived/*")} & waiting

    def make():
        note()
        while not others() and len((HERE / "ran").read_text().splitlines()) < 2:
            time.sleep(0.01)

    @pytest.mark.parametrize("number", range(2))
    def test_it(neo_daemons, number):
        (HERE / "arrived").mkdir(exist_ok=True)
        (HERE / "arrived" / str(os.getpid())).touch()
        neo_daemons.once("made", make)
    """,
    )
    outcome = repository.run(*PARALLEL)
    assert outcome.counts() == {"passed": 2}, outcome.text
    assert ran(repository) == 1


def test_an_error_is_raised_in_each_worker(repository: Inner) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    def make():
        note()
        raise ValueError("no luck")

    @pytest.mark.parametrize("number", range(6))
    def test_it(neo_daemons, number):
        neo_daemons.once("made", make)
    """,
    )
    outcome = repository.run(*PARALLEL)
    assert outcome.counts() == {"failed": 6}, outcome.text
    assert ran(repository) == 1
    said = list(messages(outcome).values())
    assert sum(text.startswith("ValueError: no luck") for text in said) == 1, said
    assert sum("once('made') failed in gw" in text and "ValueError: no luck" in text for text in said) == 5, said


def test_a_skip_skips_in_each_worker(repository: Inner) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    def make():
        note()
        pytest.skip("not here")

    @pytest.mark.parametrize("number", range(6))
    def test_it(neo_daemons, number):
        neo_daemons.once("made", make)
    """,
    )
    assert repository.run(*PARALLEL).counts() == {"skipped": 6}, repository.output()
    assert ran(repository) == 1


def test_if_the_worker_that_runs_it_dies_another_one_runs_it(repository: Inner) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    def make():
        note()
        if len((HERE / "ran").read_text().splitlines()) == 1:
            os.kill(os.getpid(), 9)
        return "made"

    @pytest.mark.parametrize("number", range(6))
    def test_it(neo_daemons, number):
        assert neo_daemons.once("made", make) == "made"
    """,
    )
    outcome = repository.run(*PARALLEL)
    assert outcome.counts()["passed"] == 5, outcome.text
    assert ran(repository) == 2


@MODES
def test_a_killed_supervisor_changes_nothing(repository: Inner, mode: tuple[str, ...]) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    import signal

    def make(neo_daemons):
        from neo_daemons.control.client import Client
        note()
        os.kill(Client(neo_daemons.state_dir).status().supervisor.pid, signal.SIGKILL)
        return "made"

    @pytest.mark.parametrize("number", range(6))
    def test_it(neo_daemons, api, number):
        assert neo_daemons.once("made", lambda: make(neo_daemons)) == "made"
    """,
    )
    outcome = repository.run(*mode)
    assert outcome.counts() == {"passed": 6}, outcome.text
    assert ran(repository) == 1


@MODES
def test_misuse_is_said(repository: Inner, mode: tuple[str, ...]) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    def test_result(neo_daemons): neo_daemons.once("object", object)
    def test_type(neo_daemons): neo_daemons.once("text", lambda: "x", type=int)
    def test_itself(neo_daemons): neo_daemons.once("x", lambda: neo_daemons.once("x", int))
    """,
    )
    outcome = repository.run(*mode)
    assert outcome.counts() == {"failed": 3}, outcome.text
    for words in (
        "once('object'): its result cannot be sent to other workers",
        "once('text'): its result is not a <class 'int'>",
        "once('x') is called by its own function",
    ):
        assert words in outcome.text


def test_each_run_of_a_warm_session_runs_it_again(repository: Inner) -> None:
    repository.write(
        "test_it.py",
        HEAD
        + """
    @pytest.mark.parametrize("number", range(4))
    def test_it(neo_daemons, api, number): neo_daemons.once("made", note)
    """,
    )
    for number in (1, 2):
        assert repository.run("--neo-daemons-keep", "60", *PARALLEL).counts() == {"passed": 4}, repository.output()
        assert ran(repository) == number
    repository.end_warm()


def test_with_an_attached_supervisor_it_is_once_for_all_workers_too(repository: Inner, project: Project) -> None:
    project.configure(api=toy())
    project.serve()
    repository.write(
        "test_it.py",
        HEAD
        + """
    @pytest.mark.parametrize("number", range(6))
    def test_it(neo_daemons, number): neo_daemons.once("made", note)
    """,
    )
    before = sorted(path.name for path in project.state.path.iterdir())
    attach = ("--neo-daemons-attach", str(project.state.path))
    for mode in ((), PARALLEL):
        assert repository.run(*attach, *mode).counts() == {"passed": 6}, repository.output()
    assert ran(repository) == 2
    assert sorted(path.name for path in project.state.path.iterdir()) == before
