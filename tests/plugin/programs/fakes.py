"""Replaces the file system and the clock."""

# mypy: ignore-errors

import pathlib

import pytest
from freezegun import freeze_time

from pytest_neo_daemons import Unavailable


def test_fake_files(api, fs):
    assert not pathlib.Path("/proc").exists()
    assert api.state == "ready"
    api.kill()
    api.wait_ready()


def test_fake_files_first(fs, api, new_daemon):
    assert new_daemon("api").state == "ready"


def test_fake_files_and_a_failure(api, fs):
    raise AssertionError("on purpose")


@freeze_time("2020-02-02")
def test_frozen(api):
    api.kill()
    api.wait_ready()


@freeze_time("2020-02-02")
def test_a_wait_that_ends(api):
    api.pause()
    api.restart()
    api.stop()
    with pytest.raises(Unavailable):
        api.wait_ready(0.5)


@freeze_time("2020-02-02")
def test_frozen_and_a_failure(api):
    raise AssertionError("on purpose")


def test_last(api):
    assert api.state == "ready"
