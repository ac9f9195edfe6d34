"""Daemons of a test's own, made by ``new_daemon``, and what they leave alone."""

from __future__ import annotations

import pytest

from .inner import MODES, Inner

pytestmark = pytest.mark.long


@pytest.mark.oldest
@MODES
def test_an_isolated_test_leaves_the_session_fixtures_of_others_alone(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.copy("library_conftest.py", "conftest.py")
    inner.copy("library.py", "test_books.py")
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 12}, outcome.text
    notes = [line.split() for line in (inner.root / "notes").read_text().splitlines()]
    workers = {pid for what, pid in notes if what == "made"}
    assert sorted(what for what, _ in notes if what != "test") == sorted(["made", "ended"] * len(workers))
    for worker in workers:
        own = [what for what, pid in notes if pid == worker]
        assert own.index("ended") > len(own) - 3  # after its last test


@MODES
def test_new_daemons_belong_to_one_test_and_end_with_it(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy(data_dir="data"), cache=inner.toy())
    inner.copy("new_daemons.py", "test_new.py")
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 5, "failed": 2}, outcome.text
    assert "new_daemon('nope'): unknown daemon 'nope'; configured daemons: api, cache" in outcome.text
    assert "new_daemon(['api']): unknown daemon ['api']; configured" in outcome.text
    assert not (inner.root / "data").exists()


def test_a_new_daemon_uses_the_definition_overridden_in_the_class_of_its_test(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.copy("new_defined.py", "test_defined.py")
    assert inner.run().counts() == {"passed": 2}, inner.output()


def test_a_new_daemon_that_cannot_start_fails_its_test_with_the_cause(inner: Inner) -> None:
    inner.configure(api=inner.toy("exit=3"))
    inner.write("test_new.py", "def test_new(new_daemon): new_daemon('api')")
    outcome = inner.run("--neo-daemons-url", "other=http://127.0.0.1:9")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "is not available: exit code 3" in outcome.text
    assert "Traceback" not in outcome.text


def test_new_daemon_refuses_external_daemons(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_new.py", "def test_new(new_daemon): new_daemon('other')")
    outcome = inner.run("--neo-daemons-url", "other=http://127.0.0.1:9")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "other cannot be isolated because it is external" in outcome.text


def test_new_daemon_without_the_flag_skips(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_new.py", "def test_new(new_daemon): new_daemon('api')")
    assert inner.run(on=False).counts() == {"skipped": 1}, inner.output()


def test_a_wider_fixture_in_an_isolated_test_is_an_error_that_says_what_to_do(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.copy("wider_fixture.py", "test_wider.py")
    outcome = inner.run()
    assert outcome.counts() == {"passed": 2, "error": 1}, outcome.text
    assert 'call new_daemon("NAME") in the test' in outcome.text
