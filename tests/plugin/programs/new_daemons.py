"""Creates daemons of its own, and looks for those of earlier tests."""

# mypy: ignore-errors

import pathlib
import urllib.request

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
