"""Replaces functions of the system in some tests, and uses daemons in all."""

# mypy: ignore-errors

import importlib
import os

import pytest

TARGETS = os.environ["TARGETS"].split()
FATAL = os.environ["FATAL"].split()


def place(target):
    module, _, name = target.rpartition(".")
    return importlib.import_module(module), name


def broken(*arguments, **keywords):
    raise AssertionError("patched")


def test_before(api):
    assert api.state == "ready"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["raises", "answers"])
def test_fails_while_it_is_patched(api, monkeypatch, how, target):
    monkeypatch.setattr(*place(target), broken if how == "raises" else lambda *_, **__: 0)
    api.pause()
    raise AssertionError("on purpose")


def test_after(api):
    assert api.state == "ready"


def test_never_undoes_it(api):
    for target in TARGETS:
        if target not in FATAL:
            setattr(*place(target), broken)
    raise AssertionError("on purpose")


def test_last(api, new_daemon):
    pid = api.pid
    api.kill()
    api.wait_ready()
    assert api.pid not in (pid, None)
    assert new_daemon("api").pid != api.pid


def test_the_last_to_fail(api):
    raise AssertionError("on purpose")
