"""Isolates tests among others that use a session fixture."""

# mypy: ignore-errors

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
