"""Takes its daemon down, and forgets to start it again."""

# mypy: ignore-errors

import os
import urllib.request

import pytest


def get(daemon):
    return urllib.request.urlopen(daemon.url, timeout=5).status


@pytest.fixture
def built(api):
    yield api
    assert get(api) == 200


def test_forgets(api, built):
    getattr(api, os.environ["FAULT"])()


def test_next(built):
    assert get(built) == 200


def test_forgets_and_fails(api, built):
    getattr(api, os.environ["FAULT"])()
    raise AssertionError("on purpose")


def test_last(api):
    assert get(api) == 200
    assert api.state == "ready"
