"""Has a session fixture, and notes when it is set up and torn down."""

# mypy: ignore-errors

import os
import pathlib

import pytest


def note(what):
    with pathlib.Path("notes").open("a") as file:
        print(what, os.getpid(), file=file)


@pytest.fixture(scope="session")
def library(api):
    note("made")
    yield api.pid
    note("ended")


def pytest_runtest_logfinish(nodeid):
    note("test")
