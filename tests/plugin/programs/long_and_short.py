"""One test that lasts until another worker has gone, and one that does not."""

# mypy: ignore-errors

import os
import time

from conftest import HERE, get


def others():
    me = os.environ["PYTEST_XDIST_WORKER"]
    return [path for path in HERE.glob("gone-*") if path.name != f"gone-{me}"]


def test_short(api):
    pass


def test_long(api):
    deadline = time.monotonic() + 60
    while os.environ["PYTEST_XDIST_WORKER_COUNT"] != "1" and not others():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert get(api.url) == 200
