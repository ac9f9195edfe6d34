"""Daemons of a test's own, made by ``new_daemon``, and what they leave alone."""

from __future__ import annotations

import pytest

from .inner import MODES, Inner

pytestmark = pytest.mark.long


@MODES
def test_an_isolated_test_leaves_the_session_fixtures_of_others_alone(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "conftest.py",
        """
        import os, pathlib
        import pytest

        def note(what):
            with pathlib.Path("notes").open("a") as file:
                print(what, os.getpid(), file=file)

        @pytest.fixture(scope="session")
        def library(api):
            note("made")
            yield api.pid
            note("ended")

        def pytest_runtest_logfinish(nodeid):
            note("test")
        """,
    )
    inner.write(
        "test_books.py",
        """
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_before(library, api, number):
            assert library == api.pid

        @pytest.mark.neo_daemons("api", isolated=True)
        @pytest.mark.parametrize("number", range(3))
        def test_marked(api, number):
            api.kill()
            api.wait_ready()

        @pytest.mark.parametrize("number", range(3))
        def test_new(library, api, new_daemon, number):
            own = new_daemon("api")
            own.kill()
            own.wait_ready()
            assert library == api.pid != own.pid

        @pytest.mark.parametrize("number", range(3))
        def test_after(library, api, number):
            assert library == api.pid
        """,
    )
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 12}, outcome.text
    notes = [line.split() for line in (inner.root / "notes").read_text().splitlines()]
    workers = {pid for what, pid in notes if what == "made"}
    assert sorted(what for what, _ in notes if what != "test") == sorted(["made", "ended"] * len(workers))
    for worker in workers:
        own = [what for what, pid in notes if pid == worker]
        assert own.index("ended") > len(own) - 3  # after its last test


@MODES
def test_new_daemons_are_a_tests_own_and_end_with_it(inner: Inner, mode: tuple[str, ...]) -> None:
    inner.configure(api=inner.toy(data_dir="data"), cache=inner.toy())
    inner.write(
        "test_new.py",
        """
        import os, pathlib, urllib.request
        import pytest
        from pytest_neo_daemons import Daemon

        SEEN = []

        def alive(pid):
            try:
                return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                return False

        @pytest.fixture(autouse=True)
        def nobody_outlives_its_test():
            assert [pid for pid in SEEN if alive(pid)] == []

        def test_two(new_daemon):
            one, two = new_daemon("api"), new_daemon("api")
            assert isinstance(one, Daemon)
            for attribute in ("pid", "port", "data_dir", "name"):
                assert getattr(one, attribute) != getattr(two, attribute)
            for daemon in (one, two):
                assert urllib.request.urlopen(daemon.url, timeout=20).status == 200
                daemon.stop()
                daemon.start()
            SEEN.extend((one.pid, two.pid))

        class TestOverridden:
            @pytest.fixture
            def api(self, new_daemon):
                return new_daemon("api")

            @pytest.fixture
            def built(self, api):
                yield api.pid
                assert alive(api.pid)

            def test_what_is_built_on_it(self, built, api, neo_daemons):
                assert built == api.pid != neo_daemons["api"].pid
                SEEN.append(api.pid)
                api.pause()

        def test_left_paused(new_daemon):
            own = new_daemon("api")
            SEEN.append(own.pid)
            own.pause()

        def test_without_a_fixture(new_daemon):
            SEEN.append(new_daemon("cache").pid)

        def test_last(api):
            assert api.pid not in SEEN

        def test_unknown(new_daemon):
            new_daemon("nope")

        def test_no_name(new_daemon):
            new_daemon(["api"])
        """,
    )
    outcome = inner.run(*mode)
    assert outcome.counts() == {"passed": 5, "failed": 2}, outcome.text
    assert "new_daemon('nope'): unknown daemon 'nope'; configured daemons: api, cache" in outcome.text
    assert "new_daemon(['api']): unknown daemon ['api']; configured" in outcome.text
    assert not (inner.root / "data").exists()


def test_a_new_daemon_has_the_definition_that_is_overridden_beside_the_test(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_defined.py",
        """
        import pytest
        from msgspec.structs import replace

        class TestOwn:
            @pytest.fixture(scope="session")
            def api_definition(self, api_definition):
                return replace(api_definition, exports={"COLOUR": "blue"})

            def test_own(self, new_daemon):
                assert new_daemon("api").env == {"COLOUR": "blue"}

        def test_shared(api):
            assert api.env == {}
        """,
    )
    assert inner.run().counts() == {"passed": 2}, inner.output()


def test_a_new_daemon_that_cannot_be_had_fails_its_test_with_the_cause(inner: Inner) -> None:
    inner.configure(api=inner.toy("exit=3"))
    inner.write("test_new.py", "def test_new(new_daemon): new_daemon('api')")
    outcome = inner.run("--neo-daemons-url", "other=http://127.0.0.1:9")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "is not available: exit code 3" in outcome.text
    assert "Traceback" not in outcome.text


def test_an_external_daemon_has_no_instance_of_a_tests_own(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_new.py", "def test_new(new_daemon): new_daemon('other')")
    outcome = inner.run("--neo-daemons-url", "other=http://127.0.0.1:9")
    assert outcome.counts() == {"failed": 1}, outcome.text
    assert "other cannot be isolated because it is external" in outcome.text


def test_new_daemon_without_the_flag_skips(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write("test_new.py", "def test_new(new_daemon): new_daemon('api')")
    assert inner.run(on=False).counts() == {"skipped": 1}, inner.output()


def test_a_wider_fixture_beside_the_mark_is_an_error_that_says_what_to_do(inner: Inner) -> None:
    inner.configure(api=inner.toy())
    inner.write(
        "test_wider.py",
        """
        import pytest

        @pytest.fixture(scope="module")
        def library(api):
            return api.pid

        def test_shared(library, api):
            assert library == api.pid

        @pytest.mark.neo_daemons("api", isolated=True)
        def test_marked(library, api): pass

        def test_again(library, api):
            assert library == api.pid
        """,
    )
    outcome = inner.run()
    assert outcome.counts() == {"passed": 2, "error": 1}, outcome.text
    assert 'call new_daemon("NAME") in the test' in outcome.text
