"""Looks at daemons whose definitions hooks have changed."""

# mypy: ignore-errors

import pathlib


def environ(daemon):
    return pathlib.Path(f"/proc/{daemon.pid}/environ").read_bytes().split(bytes(1))


def test_changed(api):
    assert b"COLOUR=blue" in environ(api)


def test_added(added):
    assert b"COLOUR=blue" not in environ(added)


def test_killed(api):
    api.kill()
    api.wait_ready()


def test_gone(gone):
    pass
