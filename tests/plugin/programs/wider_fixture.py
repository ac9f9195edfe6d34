"""Isolates a test that uses a fixture of the module."""

# mypy: ignore-errors

import pytest


@pytest.fixture(scope="module")
def library(api):
    return api.pid


def test_shared(library, api):
    assert library == api.pid


@pytest.mark.neo_daemons("api", isolated=True)
def test_marked(library, api):
    pass


def test_again(library, api):
    assert library == api.pid
