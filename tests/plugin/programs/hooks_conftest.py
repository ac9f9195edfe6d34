"""Has every hook that the plugin offers."""

# mypy: ignore-errors

import os
import pathlib

import msgspec

HERE = pathlib.Path(__file__).parent


def tell(*words):
    with (HERE / "heard").open("a") as file:
        print(*words, os.environ.get("PYTEST_XDIST_WORKER", "controller"), file=file)


def pytest_neo_daemons_definitions(config, definitions):
    tell("definitions", *definitions)
    definitions["api"] = msgspec.structs.replace(definitions["api"], env={"COLOUR": "blue"})
    definitions["added"] = msgspec.structs.replace(definitions["api"], name="added", env={})
    del definitions["gone"]


def pytest_neo_daemons_ready(config, daemon):
    tell("ready", daemon.name)


def pytest_neo_daemons_died(config, incident):
    tell("died", incident.daemon, incident.asked_for)


def pytest_neo_daemons_restarted(config, incident):
    tell("restarted", incident.daemon, incident.back_after_s is not None)
