"""Has daemons whose names resemble those of fixtures."""

# mypy: ignore-errors

import collections.abc
import os
import pathlib

import pytest


def test_another_port(api):
    assert api.port != int(os.environ["PORT"])


def test_dash(my_api, neo_daemons):
    assert my_api.name == "my-api"
    assert neo_daemons["my-api"] is my_api


def test_hides_nothing(cache, tmp_path, neo_daemons):
    assert isinstance(cache, pytest.Cache)
    assert isinstance(tmp_path, pathlib.Path)
    assert neo_daemons["cache"].state == neo_daemons["tmp-path"].state == "ready"


def test_mapping(neo_daemons, api):
    assert isinstance(neo_daemons, collections.abc.Mapping)
    assert list(neo_daemons) == ["api", "cache", "my-api", "tmp-path"]
    assert len(neo_daemons) == 4
    assert neo_daemons["api"] is api
    assert "nope" not in neo_daemons
    with pytest.raises(KeyError, match="unknown daemon 'nope'; configured daemons: api, cache, my-api"):
        neo_daemons["nope"]


def test_chroma(chroma):
    raise AssertionError
