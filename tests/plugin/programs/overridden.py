"""Reaches daemons by markers and by their names, and looks at their environments."""

# mypy: ignore-errors

import pathlib

import pytest


def colour(daemon):
    lines = pathlib.Path(f"/proc/{daemon.pid}/environ").read_text().split(chr(0))
    return [line for line in lines if line.startswith("COLOUR=")]


@pytest.mark.neo_daemons("api", "config")
def test_marker():
    pass


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.neo_daemons("api"))])
def test_parameter(number, request):
    assert any("api" in name for name in request.fixturenames) == (number == 2)


def test_marked(neo_daemons):
    assert colour(neo_daemons["api"]) == ["COLOUR=blue"]
    assert colour(neo_daemons["config"]) == []


def test_index(neo_daemons):
    assert colour(neo_daemons["other"]) == ["COLOUR=red"]
