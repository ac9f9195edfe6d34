"""A seed of the daemon `api`, whose builder notes each run in the file `built`."""

# mypy: ignore-errors

import json
import os
import pathlib
import urllib.request

import pytest_neo_daemons

HERE = pathlib.Path(__file__).parent


def records(daemon):
    with urllib.request.urlopen(daemon.url, timeout=20) as answer:
        return json.load(answer)


def add(daemon, text):
    with urllib.request.urlopen(daemon.url, text.encode(), timeout=20) as answer:
        return json.load(answer)


@pytest_neo_daemons.seed("api", inputs=["input.txt"])
def docs(api):
    words = (HERE / "input.txt").read_text().split()
    for word in words:
        add(api, word)
    with open(HERE / "built", "a") as file:
        print(os.getpid(), file=file)
    return {"records": len(words)}


@docs.count
def count(api):
    return {"records": len(records(api))}
