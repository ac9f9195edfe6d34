"""Replaces a function of the system in some tests, and uses daemons in all."""

# mypy: ignore-errors

import importlib
import os

import pytest

MODULE, NAME = os.environ["TARGET"].rsplit(".", 1)
OWNER = importlib.import_module(MODULE)


def broken(*arguments, **keywords):
    raise AssertionError("patched")


def test_before(api):
    assert api.state == "ready"


@pytest.mark.parametrize("how", ["raises", "answers"])
def test_fails_while_it_is_patched(api, monkeypatch, how):
    monkeypatch.setattr(OWNER, NAME, broken if how == "raises" else lambda *_, **__: 0)
    api.pause()
    raise AssertionError("on purpose")


def test_after(api):
    assert api.state == "ready"


@pytest.mark.skipif("NEVER" in os.environ, reason="pytest itself does not survive that")
def test_never_undoes_it(api):
    setattr(OWNER, NAME, broken)
    raise AssertionError("on purpose")


def test_last(api, new_daemon):
    pid = api.pid
    api.kill()
    api.wait_ready()
    assert api.pid not in (pid, None)
    assert new_daemon("api").pid != api.pid


def test_the_last_to_fail(api):
    raise AssertionError("on purpose")
