"""Uses a daemon as the tests do that no fault strikes."""

# mypy: ignore-errors

import pathlib

import pytest

from conftest import HERE, get

FILE = pathlib.Path(__file__).stem


@pytest.mark.parametrize("number", range(3))
def test_other(api, number):
    assert get(api.url) == 200
    (HERE / f"ran-{FILE}-{number}").touch()
