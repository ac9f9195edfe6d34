"""Seeds: built once, sealed, and cloned for the daemons of tests."""

from __future__ import annotations

import os
import py_compile
import signal
import sys
from pathlib import Path

import pytest

from pytest_neo_daemons import seeding
from pytest_neo_daemons.seeds import Seed
from tests.harness import PROGRAMS as DAEMONS
from tests.harness import Project, toy, until

from .inner import MODES, PARALLEL, Inner, lines, messages

pytestmark = pytest.mark.long

STORE = [sys.executable, "-IS", str(DAEMONS / "store.py"), "${port}", "${data_dir}"]
OWN = """
    import pytest
    from conftest import add, docs, records

    @pytest.mark.parametrize("number", range(4))
    def test_own(new_daemon, number):
        api = new_daemon("api", seed=docs)
        assert records(api) == ["one", "two", "three"]
        assert len(add(api, "four")) == 4
        api.kill()
        api.wait_ready()
        assert records(api) == ["one", "two", "three"]
"""
SHARED = """
    import pytest
    from conftest import docs

    @pytest.fixture(scope="session")
    def api_seed():
        return docs
"""
"""To be added to conftest.py."""


@pytest.fixture
def seeded(inner: Inner) -> Inner:
    """A repository with a daemon that keeps data, and a seed of it. Its cache is its own."""
    inner.env["NEO_DAEMONS_CACHE_DIR"] = str(inner.root / "cache")
    inner.configure(api=store())
    inner.copy("seeded_conftest.py", "conftest.py")
    inner.write("input.txt", "one two three\n")
    return inner


def store(*arguments: str, **settings: object) -> dict[str, object]:
    return {
        "command": [*STORE, *arguments],
        "port": "auto",
        "data_dir": "data",
        "ready": {"type": "http", "path": "/"},
        **settings,
    }


def extend(inner: Inner, text: str) -> None:
    import textwrap

    with (inner.root / "conftest.py").open("a") as file:
        file.write(textwrap.dedent(text))


def built(inner: Inner) -> int:
    return len(lines(inner.root / "built"))


def sealed(inner: Inner) -> list[str]:
    return sorted(path.name for path in (inner.root / "cache" / "seeds").iterdir())


@MODES
def test_each_test_gets_a_clone_of_its_own_of_a_seed_that_is_built_once(seeded: Inner, mode: tuple[str, ...]) -> None:
    seeded.write("test_it.py", OWN)
    for _ in range(2):
        outcome = seeded.run(*mode)
        assert outcome.counts() == {"passed": 4}, outcome.text
        assert built(seeded) == 1
        assert seeded.left() == []
    assert len(sealed(seeded)) == 2
    assert "built the seed docs" not in outcome.text
    assert outcome.text.count("seeds are cloned by ") == 1


@MODES
def test_the_shared_daemon_starts_on_a_clone(seeded: Inner, mode: tuple[str, ...]) -> None:
    extend(seeded, SHARED)
    seeded.write(
        "test_it.py",
        """
        import pytest
        from conftest import add, records

        @pytest.mark.parametrize("number", range(6))
        def test_shared(api, number):
            assert records(api)[:3] == ["one", "two", "three"]
            add(api, f"more {number}")

        @pytest.mark.parametrize("number", range(2))
        def test_own(new_daemon, number):
            assert records(new_daemon("api")) == ["one", "two", "three"]
            assert records(new_daemon("api", seed=None)) == []

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_isolated(api):
            assert records(api) == ["one", "two", "three"]
        """,
    )
    for _ in range(2):
        outcome = seeded.run(*mode)
        assert outcome.counts() == {"passed": 9}, outcome.text
        assert built(seeded) == 1


def test_to_import_a_module_from_an_input_changes_nothing(tmp_path: Path) -> None:
    seed = Seed(lambda daemon: {}, "api", "docs", (tmp_path,))
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "words.py").write_text("WORDS = 1")
    before = list(seeding._inputs(seed))
    py_compile.compile(str(tmp_path / "helpers" / "words.py"))
    assert [*tmp_path.rglob("*.pyc")]
    assert list(seeding._inputs(seed)) == before
    (tmp_path / "helpers" / "words.py").write_text("WORDS = 2")
    assert list(seeding._inputs(seed)) != before


def test_an_edit_of_a_watched_file_does_not_build_a_seed_again(seeded: Inner) -> None:
    seeded.write("src/app.py", "version = 1\n")
    seeded.configure(api=store(watch=["src/*.py"]))
    seeded.write("test_it.py", OWN)
    for number in range(2):
        seeded.write("src/app.py", f"version = {number}\n")
        assert seeded.run("-k", "0").counts() == {"passed": 1}, seeded.output()
    assert built(seeded) == 1


def test_a_seed_is_built_again_when_its_input_builder_or_definition_changes(seeded: Inner) -> None:
    seeded.write("test_it.py", OWN)
    assert seeded.run("-k", "0").counts() == {"passed": 1}, seeded.output()

    def change_input() -> None:
        seeded.write("input.txt", "one two  three\n")

    def change_builder() -> None:
        text = (seeded.root / "conftest.py").read_text()
        (seeded.root / "conftest.py").write_text(text.replace("for word in words:", "for word in list(words):"))

    def change_definition() -> None:
        seeded.configure(api=store(env={"COLOUR": "red"}))

    for number, change in enumerate((change_input, change_builder, change_definition), start=2):
        change()
        assert seeded.run("-k", "0").counts() == {"passed": 1}, seeded.output()
        assert built(seeded) == number, change.__name__
        assert "built the seed docs" in seeded.output()


def test_a_damaged_seed_is_built_again_and_the_summary_says_so(seeded: Inner) -> None:
    seeded.write("test_it.py", OWN)
    assert seeded.run("-k", "0").counts() == {"passed": 1}, seeded.output()
    (path,) = (seeded.root / "cache" / "seeds").glob("docs-*/data/records.json")
    path.write_text('["one", "two", "THREE"]')
    assert seeded.run("-k", "0").counts() == {"passed": 1}, seeded.output()
    assert built(seeded) == 2
    assert "the seed docs is built again because its sealed copy is damaged: records.json" in seeded.output()


@pytest.mark.parametrize(
    ("shared", "mode"),
    [
        pytest.param(False, (), id="own-alone"),
        pytest.param(True, PARALLEL, id="shared-n2"),
        pytest.param(False, PARALLEL, id="own-n2", marks=pytest.mark.matrix),
        pytest.param(True, (), id="shared-alone", marks=pytest.mark.matrix),
    ],
)
def test_a_clone_whose_counts_differ_is_refused(seeded: Inner, mode: tuple[str, ...], shared: bool) -> None:
    extend(
        seeded,
        """
        import msgspec, pytest

        @pytest_neo_daemons.seed("api")
        def wrong(api):
            add(api, "one")
            return {"records": 1}

        @wrong.count
        def count_wrong(api):
            return {"records": len(records(api)) if "-seed-" in api.name else 0}
        """,
    )
    if shared:
        extend(seeded, SHARED.replace("docs", "wrong").replace("from conftest import wrong", ""))
    use = "api" if shared else "new_daemon"
    start = "" if shared else "new_daemon('api', seed=conftest.wrong)"
    seeded.write(
        "test_it.py",
        f"""
        import conftest, pytest

        @pytest.mark.parametrize("number", range(2))
        def test_it({use}, number):
            {start or "pass"}
        """,
    )
    outcome = seeded.run(*mode)
    assert outcome.counts() == ({"error": 2} if shared else {"failed": 2}), outcome.text
    said = messages(outcome)
    assert all("is refused: it has 0 records instead of 1" in text for text in said.values()), outcome.text
    assert not any("Traceback" in text for text in said.values())


def test_a_builder_that_lost_what_it_reports_seals_nothing(seeded: Inner) -> None:
    text = (seeded.root / "conftest.py").read_text()
    (seeded.root / "conftest.py").write_text(text.replace('{"records": len(words)}', '{"records": 4}'))
    seeded.write("test_it.py", OWN)
    outcome = seeded.run("-k", "0")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "the builder of the seed docs returned records = 4, not 3 as counted afterwards" in outcome.text
    assert sealed(seeded) == ["docs.lock"]


def test_the_error_of_a_builder_is_shown_as_it_is_and_seals_nothing(seeded: Inner) -> None:
    (seeded.root / "input.txt").write_text("")
    text = (seeded.root / "conftest.py").read_text()
    (seeded.root / "conftest.py").write_text(text.replace('    return {"records"', '    return 1 / 0, {"records"'))
    seeded.write("test_it.py", OWN)
    outcome = seeded.run("-k", "0 or 1", *PARALLEL)
    assert outcome.counts() == {"failed": 2}, outcome.text
    assert outcome.text.count("return 1 / 0") >= 1
    assert built(seeded) == 1  # the other worker is told
    assert "ZeroDivisionError: division by zero" in outcome.text
    assert sealed(seeded) == ["docs.lock"]


def test_a_daemon_that_had_to_be_killed_seals_nothing(seeded: Inner) -> None:
    seeded.configure(api=store("stubborn", stop={"grace_s": 0.2}))
    seeded.write("test_it.py", OWN)
    outcome = seeded.run("-k", "0")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "the daemon of the seed docs did not stop by itself" in outcome.text
    assert "give it more time: daemons.api.stop.grace_s" in outcome.text
    assert sealed(seeded) == ["docs.lock"]


@pytest.mark.parametrize("mode", [(), PARALLEL], ids=["alone", "n2"])
def test_a_run_killed_while_it_builds_leaves_nothing_that_is_used(seeded: Inner, mode: tuple[str, ...]) -> None:
    wait = '    (HERE / "begun").touch()\n    while (HERE / "wait").exists():\n        time.sleep(0.01)\n'
    text = (seeded.root / "conftest.py").read_text()
    text = text.replace("    with open(HERE", f"{wait}    with open(HERE").replace("import json", "import json, time")
    (seeded.root / "conftest.py").write_text(text)
    (seeded.root / "wait").touch()
    seeded.write("test_it.py", OWN)
    run = seeded.popen(*mode)
    seeded.reaches("begun")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    seeded.wait_until_nothing_is_left()
    assert sealed(seeded) == ["docs.lock"]
    (seeded.root / "wait").unlink()
    outcome = seeded.run(*mode)
    assert outcome.counts() == {"passed": 4}, outcome.text
    assert built(seeded) == 1


def test_a_worker_killed_while_it_builds_is_followed_by_another(seeded: Inner) -> None:
    kill = '    if not (HERE / "begun").exists():\n        (HERE / "begun").touch()\n        os.kill(os.getpid(), 9)\n'
    text = (seeded.root / "conftest.py").read_text()
    (seeded.root / "conftest.py").write_text(text.replace("    with open(HERE", f"{kill}    with open(HERE"))
    seeded.write("test_it.py", OWN)
    outcome = seeded.run(*PARALLEL)
    assert outcome.counts()["passed"] >= 3, outcome.text
    assert built(seeded) == 1


def test_two_runs_at_once_build_a_seed_once(seeded: Inner) -> None:
    seeded.write("test_it.py", OWN)
    runs = [seeded.popen("-k", "0"), seeded.popen("-k", "1")]
    assert [run.wait(120) for run in runs] == [0, 0], seeded.output()
    assert built(seeded) == 1


def test_what_cannot_be_used_is_said_without_a_traceback(seeded: Inner) -> None:
    seeded.configure(api=store(), bare=seeded.toy())
    seeded.write(
        "test_it.py",
        """
        import pytest_neo_daemons
        from conftest import docs

        @pytest_neo_daemons.seed("api", inputs=["missing.txt"])
        def lost(api): return {}

        @pytest_neo_daemons.seed("bare")
        def bare_seed(bare): return {}

        @pytest_neo_daemons.seed("api")
        def bad(api): return ["records"]

        def test_input(new_daemon): new_daemon("api", seed=lost)
        def test_no_data(new_daemon): new_daemon("bare", seed=bare_seed)
        def test_other(new_daemon): new_daemon("bare", seed=docs)
        def test_counts(new_daemon): new_daemon("api", seed=bad)
        def test_kind(new_daemon): new_daemon("api", seed="docs")
        """,
    )
    outcome = seeded.run()
    assert outcome.counts() == {"failed": 5}, outcome.text
    for words in (
        "the seed lost cannot read its input",
        "missing.txt: No such file or directory",
        "bare has no data directory, so it cannot start on the seed bare_seed; set daemons.bare.data_dir",
        "the builder of the seed bad returned ['records']; return counts by name",
        "got 'docs', which is not a seed",
    ):
        assert words in outcome.text
    assert "Traceback" not in outcome.text
    assert "seeding.py" not in outcome.text


@pytest.mark.parametrize("way", ["url", "attach"])
def test_a_daemon_that_is_not_ours_gets_no_seed(seeded: Inner, project: Project, way: str) -> None:
    extend(seeded, SHARED)
    project.configure(api=toy())
    project.serve()
    url = project.reaches("api", "ready").url
    seeded.write("test_it.py", "def test_it(api): pass\n")
    option = f"--neo-daemons-url=api={url}" if way == "url" else f"--neo-daemons-attach={project.state.path}"
    outcome = seeded.run(option)
    assert outcome.counts() == {"error": 1}, outcome.text
    said = "api is external, so it cannot start on the seed docs" if way == "url" else "cannot clone the seed docs: it"
    assert said in outcome.text
    assert "Traceback" not in outcome.text
    assert not (seeded.root / "cache").exists()


def test_old_seeds_are_removed_beyond_the_bound(seeded: Inner) -> None:
    seeded.write("test_it.py", OWN)
    seeded.write("pytest.ini", "[pytest]\nneo_daemons_seeds_max_bytes = 1\n")
    for number in range(2):
        seeded.write("input.txt", "one two three" + " " * number)
        assert seeded.run("-k", "0").counts() == {"passed": 1}, seeded.output()
        assert len(sealed(seeded)) == 2
    assert "removed the seed docs-" in seeded.output()


@pytest.mark.parametrize("setting", ["neo_daemons_seeds_max_bytes=4 GB", "neo_daemons_seeds_max_days=-1"])
def test_a_bound_that_is_no_number_is_a_usage_error(seeded: Inner, setting: str) -> None:
    seeded.write("test_it.py", OWN)
    outcome = seeded.run("-o", setting)
    assert outcome.code == pytest.ExitCode.USAGE_ERROR
    assert "use a whole number" in outcome.text


def test_without_the_flag_tests_that_use_seeds_are_skipped(seeded: Inner) -> None:
    seeded.write("test_it.py", OWN + "\n    def test_seed(api_seed): pass\n")
    assert seeded.run(on=False).counts() == {"skipped": 5}, seeded.output()
    assert until(lambda: not Path(seeded.root / "cache").exists(), "no cache")


def test_a_warm_session_keeps_the_data_of_its_clone_and_the_next_run_accepts_that(seeded: Inner) -> None:
    extend(seeded, SHARED)
    seeded.write(
        "test_it.py",
        """
        from conftest import HERE, add, records

        def test_it(api):
            found = records(api)
            with open(HERE / "found", "a") as file:
                print(len(found), file=file)
            add(api, "more")
        """,
    )
    for mode in ((), PARALLEL):
        assert seeded.run("--neo-daemons-keep", "60", *mode).counts() == {"passed": 1}, seeded.output()
    assert lines(seeded.root / "found") == ["3", "4"]
    assert built(seeded) == 1
    seeded.end_warm()
