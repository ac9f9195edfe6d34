"""Has its daemons log something before, during and after failing tests."""

# mypy: ignore-errors

import contextlib
import pathlib
import urllib.error
import urllib.request

import pytest


def ask(daemon, path):
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(f"{daemon.url}/{path}", timeout=20)


@pytest.fixture
def asked(api):
    ask(api, "from-setup")


def test_passes(api, other):
    ask(api, "from-passing")
    ask(other, "from-passing")


def test_fails(api):
    ask(api, "from-failing")
    raise AssertionError


def test_without_a_traceback(api, other):
    ask(api, "from-brief")
    ask(other, "from-other")
    pytest.fail("brief", pytrace=False)


def test_setup(asked):
    raise AssertionError


def test_by_name(neo_daemons):
    ask(neo_daemons["api"], "from-mapping")
    raise AssertionError


def test_control_characters(api):
    with api.log_path.open("ab") as file:
        file.write(pathlib.Path("noise").read_bytes())
    raise AssertionError


@pytest.mark.neo_daemons("api", isolated=True)
def test_isolated(api):
    ask(api, "from-isolated")
    raise AssertionError


def test_silent(api):
    raise AssertionError


def test_uses_none():
    raise AssertionError
